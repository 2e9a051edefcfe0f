"""Networks that others trained and published: audits, certificates, and our search beside others'.

    python benchmarks/published.py                       # hours; rows that are there are not redone
    python benchmarks/published.py --rows resnet20 --preset smoke
    python benchmarks/published.py --print               # the table of what is there

Rows stand in published.yaml, architectures in published_nets.py. Weights are looked for in
$BLANKCHECK_MODELS under their own names, else downloaded; either way their checksum is compared.
Each row leaves a run folder, and its figures in one file, under --runs; whoever wants a row anew
removes it there. The tables go to the terminal and to benchmarks/results/published.md, and reports
of the audits, in words, beside it.

Searches are compared class by class: the fewest lit features with p >= 0.9 that each finds with at
most --steps backward passes per image, whatever the image looks like. Ours makes ten images of each
class, others, who take the same path each time, one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pooch
import torch
import yaml
from records import said, table, where, write
from rivals import RIVALS
from search import row, steps_of

import blankcheck as bc
from blankcheck.auditing.third_party import Asked, cleaned
from blankcheck.certifying import certify
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.data.named import cache_folder
from blankcheck.parallel.devices import DEVICES, resolve

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "published.md"
WEB = "https://github.com/blankcheck/blankcheck/blob/main/benchmarks/results/published"
COMPARED = ("sigma-zero", "FMN-L0 (adversarial-library)", "sPGD", "saliency map")
NEVER = 10**6


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    entries: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "published.yaml").read_text())
    for name in [] if chosen.print else chosen.rows or entries:
        if not (chosen.runs / name / "row.json").is_file():
            measure(name, entries[name], chosen)
    found = {
        name: json.loads((chosen.runs / name / "row.json").read_text())
        for name in entries
        if (chosen.runs / name / "row.json").is_file()
    }
    for name in found:
        write(RESULTS.with_suffix("") / f"{name}.md", report(name, chosen.runs / name))
    places = {r["where"].partition(", load")[0] for r in found.values()}
    text = "\n\n".join([audits(found), searches(found), *(f"{p}." for p in sorted(places))])
    print(text)
    write(RESULTS, text + "\n")


def measure(name: str, entry: dict[str, Any], chosen: argparse.Namespace) -> None:
    """One row, whose figures are written when all of them are there."""
    folder, data = chosen.runs / name, bc.load_data(entry["data"])
    weights = str(weights_of(entry)) + (f"#{entry['part']}" if "part" in entry else "")
    normalize = parse_normalize(entry.get("normalize"))
    factory = f"{HERE / 'published_nets.py'}:{entry['model']}"
    device = resolve(chosen.device)
    model = bc.load_model(factory, weights, data, normalize).to(device).eval()
    audit = bc.audit(model, data, chosen.preset, seed=chosen.seed)
    audit.save(folder, overwrite=True)  # of a try that was stopped before its row was whole
    proved = None
    if entry.get("certify", True):
        began = time.monotonic()
        proved = {"k": certify(model, data.shape, len(data.classes)).k}
        proved["seconds"] = round(time.monotonic() - began, 1)
    keys = ("verdict", "attempts", "rate", "median_lit", "min_lit", "real_accuracy")
    figures = {key: audit.json[key] for key in keys}
    figures["second"] = audit.json["second_opinion"]["rate"]
    figures["seconds"] = audit.json["cost"]["seconds"]
    measured = {
        "audit": figures,
        "preset": chosen.preset,
        "certificate": proved,
        "steps": chosen.steps,
        "fewest": fewest(model, data, chosen.steps),
        "where": said(where(device)),
    }
    write(folder / "row.json", json.dumps(measured, indent=1) + "\n")
    print(f"{name}: {figures}", flush=True)


def report(name: str, folder: Path) -> str:
    """The report of a row's audit, in words alone: pictures by what they say."""
    words = re.sub(r"!\[(.*)\]\(figures/.*\)", r"*\1*", (folder / "report.md").read_text())
    return words.replace(str(folder), f"build/published/{name}")


def weights_of(entry: dict[str, Any]) -> Path:
    """The file of the weights, of the right checksum."""
    known, url = entry["sha256"], entry["url"]
    parts = url.split("/")
    # files of one name differ by their repository
    name = f"{parts[4]}-{'-'.join(parts[6:])}"
    local = Path(os.environ.get("BLANKCHECK_MODELS", ".")) / name
    if not local.is_file():
        path = cache_folder() / "published"
        return Path(pooch.retrieve(url, f"sha256:{known}", name, path, progressbar=True))
    if hashlib.sha256(local.read_bytes()).hexdigest() != known:
        raise SystemExit(f"{local} is not the file that published.yaml names")
    return local


def fewest(model: torch.nn.Module, data: bc.Data, steps: int) -> dict[str, list[int]]:
    """For each method the fewest lit features of each class; `NEVER` where it found nothing."""
    everything, classes = data.train.images[:1].numel(), range(len(data.classes))
    ours = bc.fool(model, classes, 10, data=data, steps=steps, until="sparsest", max_lit=everything)
    kept = {"blankcheck": row(model, ours.images, ours.targets, 1, 1, 1).fewest().tolist()}
    targets, black = torch.tensor(classes), torch.zeros(len(classes), *data.shape)
    for label, make in RIVALS.items():
        if not label.startswith(COMPARED) or steps_of(label) > steps:
            continue
        try:
            images = cleaned(make()(Asked(model, "logits", 0.9), black, targets), black)
        except (ImportError, IndexError, RuntimeError, ValueError) as error:
            print(f"{label}: {type(error).__name__}: {error}", flush=True)
            continue
        kept[label] = row(model, images, targets, 1, 1, 1).fewest().tolist()
    return kept


def audits(found: dict[str, dict[str, Any]]) -> str:
    """One row a network."""
    head = ("network", "right", "verdict", "fooled", "median lit", "fewest lit", "second opinion")
    rows = []
    for name, one in found.items():
        a, proof = one["audit"], one["certificate"]
        k = "-" if proof is None else " ".join("none" if k is None else str(k) for k in proof["k"])
        lit = ("-" if a[k] is None else f"{a[k]:g}" for k in ("median_lit", "min_lit"))
        shares = f"{a['rate']:.1%} of {a['attempts']}", *lit, f"{a['second']:.1%}"
        cells = f"[{name}]({WEB}/{name}.md)", f"{a['real_accuracy']:.2%}", a["verdict"], *shares
        rows.append((*cells, k, f"{a['seconds']:.0f}", one["preset"]))
    return table((*head, "proved k of each class", "seconds", "preset"), rows)


def searches(found: dict[str, dict[str, Any]]) -> str:
    """One row a network: ours, the best other, and the classes on which that has fewer."""
    rows = []
    for name, one in found.items():
        others = {label: lit for label, lit in one["fewest"].items() if label != "blankcheck"}
        ours = one["fewest"]["blankcheck"]
        best = [min(lit) for lit in zip(*others.values(), strict=True)] or [NEVER] * len(ours)
        lost = sum(a > b for a, b in zip(ours, best, strict=True))
        spelt = [" ".join("-" if n >= NEVER else str(n) for n in each) for each in (ours, best)]
        rows.append((name, str(one["steps"]), *spelt, str(lost)))
    head = ("network", "steps", "fewest lit of each class, ours", "best of the others")
    return table((*head, "classes lost"), rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", help="names of published.yaml; default all")
    parser.add_argument("--runs", type=Path, default=Path("build/published"))
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--steps", type=int, default=300, help="of the searches compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--print", action="store_true", help="only the tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
