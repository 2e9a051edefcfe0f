"""A network that is trained already, mended in few epochs: audited, hardened, audited again.

    python benchmarks/fix_trained.py --model nets.py:ResNet20 --weights resnet20.safetensors \\
        --normalize 0.485,0.456,0.406/0.229,0.224,0.225 --data cifar10 --epochs 3

Writes benchmarks/results/fix_trained.json, the mended weights and a sheet of witnesses beside it,
and prints the rows of benchmarks/RESULTS.md. Nothing is chosen here: options are those of
`blankcheck harden`, and test data is read by the two audits alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from hardening import where, write
from hardening_measures import audit_figures, real_figures

import blankcheck as bc
from blankcheck.classifiers.loading import parse_normalize, save_model

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    chosen = arguments()
    data = bc.load_data(chosen.data)
    named = chosen.model, chosen.weights, data, parse_normalize(chosen.normalize)
    name = Path(chosen.weights).stem
    plain = bc.load_model(*named).eval()
    rows = {"published": measured(plain, data, chosen, f"{name}-published")}
    began = time.monotonic()
    options = {"epochs": chosen.epochs, "lr": chosen.lr, "augment": chosen.augment}
    made = bc.harden(bc.load_model(*named), data, seed=chosen.seed, **options)
    seconds = time.monotonic() - began
    save_model(made.model, RESULTS / f"{name}-mended.safetensors")
    rows["mended"] = measured(made.model, data, chosen, f"{name}-mended") | {"seconds": seconds}
    record = {"settings": vars(chosen), "where": where(), "rows": rows}
    write(RESULTS / "fix_trained.json", json.dumps(record, indent=1) + "\n")
    print("| | accuracy | right and confident | verdict | fooled | second opinion | median lit |")
    print("|---" * 7 + "|")
    for what, row in rows.items():
        real, audit = row["real"], row["audit"]
        shares = real["accuracy"], real["confident"], audit["rate"], audit["second_opinion"]["rate"]
        right, sure, fooled, second = (f"{share:.2%}" for share in shares)
        cells = what, right, sure, audit["verdict"], fooled, second, str(audit["median_lit"])
        print(f"| {' | '.join(cells)} |")
    print(f"\n{chosen.epochs} epochs in {seconds:.0f} s; {record['where']}")


def measured(model: Any, data: bc.Data, chosen: argparse.Namespace, sheet: str) -> dict[str, Any]:
    audit = audit_figures(model, data, chosen.preset, chosen.seed, RESULTS / sheet)
    return {"real": real_figures(model, data), "audit": audit}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--normalize", default="none")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="standard")
    return parser.parse_args()


if __name__ == "__main__":
    main()
