"""Is the audit honest? The zoo of blankcheck.testing, audited: deceivers must never be called
RESISTED.

    python benchmarks/honesty.py --data digits mnist --seeds 5

`smoke` is run with every seed, every other preset with the first. One row per member and preset as
soon as it is known; the last three lines say what must be zero, and the exit code is 1 when it is
not.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass

import blankcheck as bc
from blankcheck.testing import NAMES, Member, zoo

RESISTS = ("RESISTED", "CERTIFIED")
BEYOND = " (patterns narrower than its stated scope)"
HEAD = (
    "| data | member | kind | preset | verdicts | attempts fooled | failing checks | seconds |\n|"
    + "---|" * 8
)


@dataclass(frozen=True)
class Row:
    """A member's audits at one preset, one entry of `verdicts` each; `failing` counts the codes of
    failed checks."""

    data: str
    member: Member
    preset: str
    verdicts: tuple[str, ...]
    fooled: int
    attempts: int
    failing: Counter[str]
    seconds: float

    def __str__(self) -> str:
        said = ", ".join(
            f"{verdict} {n}" if n > 1 else verdict for verdict, n in Counter(self.verdicts).items()
        )
        codes = ", ".join(f"{code} {n}" if n > 1 else code for code, n in self.failing.items())
        cells = (
            self.data,
            self.member.name,
            self.member.kind,
            self.preset,
            said,
            f"{self.fooled} of {self.attempts}",
            codes,
        )
        return f"| {' | '.join(cells)} | {self.seconds:.1f} |"


def audited(source: str, member: Member, preset: str, seeds: range) -> Row:
    """Audit with each seed. A network that the audit refuses gets no verdict."""
    began, verdicts, failing, fooled, attempts = time.monotonic(), [], Counter[str](), 0, 0
    for seed in seeds:
        try:
            # a copy: some count what they are asked
            model = copy.deepcopy(member.model)
            audit = bc.audit(model, member.data, preset, seed, max_lit=member.max_lit)
        except bc.ModelError as error:
            verdicts.append(f"refused: {error}")
            continue
        scope = audit.json["controls"].get("planted-control", {}).get("narrowest_reach", math.inf)
        beyond = str(audit.verdict) in RESISTS and member.reach is not None and member.reach < scope
        verdicts.append(f"{audit.verdict}{BEYOND if beyond else ''}")
        fooled, attempts = fooled + audit.json["fooled"], attempts + audit.json["attempts"]
        failing.update(
            check["code"] for check in audit.json["checks"] if check["status"] == "failed"
        )
    return Row(
        source, member, preset, tuple(verdicts), fooled, attempts, failing, time.monotonic() - began
    )


def narrowest(rows: list[Row]) -> list[str]:
    """For each data set, preset and kind of planted pattern: the narrowest that an audit found."""
    lines = []
    for kind, what in (("planted-present-", "width"), ("planted-", "reach")):
        for data, preset in dict.fromkeys((r.data, r.preset) for r in rows):
            tried = [
                r
                for r in rows
                if (r.data, r.preset) == (data, preset)
                and r.member.name.rpartition("-")[0] + "-" == kind
            ]
            found = [
                float(r.member.name.removeprefix(kind)) for r in tried if "FOOLED" in r.verdicts
            ]
            if tried:
                least = f"{min(found):g}" if found else "none"
                lines.append(
                    f"{data}, {preset}: narrowest {what} of {kind}* that was found: {least}"
                )
    return lines


def faults(rows: list[Row]) -> dict[str, set[tuple[str, str]]]:
    """What must not be: sentence -> (data, member) for which it is."""

    def those(kind: str, wrong: list[bool]) -> set[tuple[str, str]]:
        return {
            (r.data, r.member.name)
            for r, bad in zip(rows, wrong, strict=True)
            if bad and r.member.kind == kind
        }

    resisted = [any(v in RESISTS for v in r.verdicts) for r in rows]
    fooled = ["FOOLED" in r.verdicts for r in rows]
    always = [all(v == "FOOLED" for v in r.verdicts) for r in rows]
    timid = [r.preset == "standard" and not all(v in RESISTS for v in r.verdicts) for r in rows]
    return {
        "deceivers ever RESISTED": those("deceiver", resisted),
        "honest members not RESISTED at standard or ever FOOLED": those(
            "honest", [a or b for a, b in zip(fooled, timid, strict=True)]
        ),
        "plain members not FOOLED": those("plain", [not a for a in always]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument(
        "--members", nargs="+", default=list(NAMES), choices=NAMES, metavar="MEMBER"
    )
    parser.add_argument(
        "--presets",
        nargs="+",
        default=["smoke", "standard"],
        choices=("smoke", "standard", "proof"),
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=None, help="of the networks inside; default: the usual number"
    )
    chosen = parser.parse_args()
    rows: list[Row] = []
    print(HEAD, flush=True)
    for source in chosen.data:
        for member in zoo(bc.load_data(source), epochs=chosen.epochs, names=chosen.members):
            for preset in chosen.presets:
                rows.append(
                    audited(source, member, preset, range(chosen.seeds if preset == "smoke" else 1))
                )
                print(rows[-1], flush=True)
    print("", *narrowest(rows), "", sep="\n")
    found = faults(rows)
    for sentence, where in found.items():
        print(
            f"{sentence}: {len(where)} (must be 0) "
            f"{', '.join(' '.join(w) for w in sorted(where))}".rstrip()
        )
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
