"""Is your classifier sure of what it sees, or just sure?

blankcheck looks for images that are almost blank, that no real data looks like, and that a
classifier is nevertheless certain about. It trains classifiers that are not fooled by them. And it
says, with evidence that anyone can check again, which of the two a classifier is.

    import blankcheck as bc

    model = bc.load_model("net.py:make", weights="net.pt", normalize=((0.1307,), (0.3081,)))
    data = bc.load_data("mnist")
    found = bc.fool(model, range(10), 10, data=data)  # images, how sure and how sparse
    audit = bc.audit(model, data)                     # search, out-of-distribution test, checks
    print(audit.verdict, audit.rate)                  # FOOLED, RESISTED or INCONCLUSIVE
    hardened = bc.harden(model, data)                 # rounds of search and training
    hardened.save("runs/hardened")

`docs/architecture.md` says which rooms the package has, and which of them may know which.
"""

from typing import TYPE_CHECKING

from blankcheck.lazily import exported

if TYPE_CHECKING:
    from blankcheck.api.audit import Audit, audit
    from blankcheck.api.blend import blend
    from blankcheck.api.certify import certify, gate
    from blankcheck.api.fool import fool
    from blankcheck.api.harden import Hardened, harden
    from blankcheck.certifying import Certificate
    from blankcheck.classifiers import load_model
    from blankcheck.comparing.folders import compare
    from blankcheck.comparing.pairs import Comparison
    from blankcheck.data import Data, LazyImages, Split, load_data
    from blankcheck.diagnosing import Diagnosis, diagnose
    from blankcheck.errors import (
        ArgumentError,
        BlankcheckError,
        DataError,
        ModelError,
        RunFolderError,
    )
    from blankcheck.judging import FIRST, OODTest, Score, Verdict
    from blankcheck.runs.blend_record import Blends
    from blankcheck.types import Conditions, Fooling, Outcome
    from blankcheck.verifying.folder import Findings
    from blankcheck.verifying.verify import verify

__version__ = "0.1.0"

__all__ = [
    "FIRST",
    "ArgumentError",
    "Audit",
    "BlankcheckError",
    "Blends",
    "Certificate",
    "Comparison",
    "Conditions",
    "Data",
    "DataError",
    "Diagnosis",
    "Findings",
    "Fooling",
    "Hardened",
    "LazyImages",
    "ModelError",
    "OODTest",
    "Outcome",
    "RunFolderError",
    "Score",
    "Split",
    "Verdict",
    "audit",
    "blend",
    "certify",
    "compare",
    "diagnose",
    "fool",
    "gate",
    "harden",
    "load_data",
    "load_model",
    "verify",
]

# torch takes a second to import, so each name is fetched when it is asked for
__getattr__ = exported(
    __name__,
    certifying="Certificate",
    classifiers="load_model",
    data="Data LazyImages Split load_data",
    diagnosing="Diagnosis diagnose",
    errors="ArgumentError BlankcheckError DataError ModelError RunFolderError",
    judging="FIRST OODTest Score Verdict",
    types="Conditions Fooling Outcome",
    **{
        "api.audit": "Audit audit",
        "api.blend": "blend",
        "api.certify": "certify gate",
        "api.fool": "fool",
        "api.harden": "Hardened harden",
        "comparing.folders": "compare",
        "comparing.pairs": "Comparison",
        "runs.blend_record": "Blends",
        "verifying.folder": "Findings",
        "verifying.verify": "verify",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
