"""Is your classifier sure of what it sees, or just sure?

blankcheck looks for images that are almost blank, that no real data looks like, and that a
classifier is nevertheless certain about; it trains classifiers that are not fooled by them; and it
says, with evidence that anyone can check again, which of the two a classifier is.

    import blankcheck as bc

    model = bc.load_model("net.py:make", weights="net.safetensors", normalize=((0.1307,),
    (0.3081,))) data = bc.load_data("mnist") found = bc.fool(model, range(10), 10, data=data,
    steps=1000)    # images a search made: how sure, how sparse audit = bc.audit(model, data)
    # search + out-of-distribution test + checks print(audit.verdict, audit.rate,
    audit.rate_upper_95)           # FOOLED, RESISTED or INCONCLUSIVE hardened = bc.harden(model,
    data)                               # rounds of search and training
    hardened.save("runs/hardened")

The rooms, each of which only knows those before it: `fooling` makes images, `judging` says what
they mean, `classifiers` and `data` are what is searched and what is real; `auditing` gathers
evidence; `hardening` improves classifiers; `running` has every side effect.
"""

from blankcheck.api.audit import Audit, audit
from blankcheck.api.harden import Hardened, harden
from blankcheck.auditing import fool
from blankcheck.classifiers import load_model
from blankcheck.data import Data, LazyImages, Split, load_data
from blankcheck.diagnosing import Diagnosis, diagnose
from blankcheck.errors import ArgumentError, BlankcheckError, DataError, ModelError, RunFolderError
from blankcheck.judging import FIRST, OODTest, Score, Verdict
from blankcheck.types import Conditions, Fooling, Outcome

__version__ = "0.1.0"

__all__ = [
    "FIRST",
    "ArgumentError",
    "Audit",
    "BlankcheckError",
    "Conditions",
    "Data",
    "DataError",
    "Diagnosis",
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
    "diagnose",
    "fool",
    "harden",
    "load_data",
    "load_model",
]
