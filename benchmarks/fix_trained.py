"""A network that is trained already, mended in few epochs: audited, hardened, audited again.

    python benchmarks/fix_trained.py --model nets.py:ResNet20 --weights resnet20.safetensors \\
        --normalize 0.485,0.456,0.406/0.229,0.224,0.225 --data cifar10 --epochs 3

Writes benchmarks/results/fix_trained.json, the mended weights and a sheet of witnesses beside it,
and prints the rows of benchmarks/RESULTS.md; --rows makes them in processes of their own. Nothing
is chosen here: options are those of `blankcheck harden`, and test data is read by the audits alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from hardening_measures import audit_figures, real_figures
from records import keep, said, table, where

import blankcheck as bc
from blankcheck.classifiers.loading import parse_normalize, save_model
from blankcheck.parallel.devices import DEVICES, resolve

RESULTS = Path(__file__).parent / "results"
ROWS = ("published", "mended")


def main() -> None:
    chosen = arguments()
    for row in chosen.rows:
        keep(RESULTS / "fix_trained.json", row, measured(row, chosen))
    rows = json.loads((RESULTS / "fix_trained.json").read_text())
    head = "", "accuracy", "right and confident", "verdict", "fooled", "second opinion"
    head = *head, "median lit", "found by checks", "epochs", "hardening, s"
    print(table(head, [line(row, rows) for row in rows]))
    print("\n".join(sorted({said(row["where"]) for row in rows.values()})))


def measured(row: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One record: the network as it was published, or mended and saved."""
    data, device = bc.load_data(chosen.data), resolve(chosen.device)
    name, normalize = f"{Path(chosen.weights).stem}-{row}", parse_normalize(chosen.normalize)
    model = bc.load_model(chosen.model, chosen.weights, data, normalize).to(device).eval()
    began, seconds = time.monotonic(), 0.0
    if row == "mended":
        options = {"epochs": chosen.epochs, "lr": chosen.lr, "augment": chosen.augment}
        model = bc.harden(model, data, seed=chosen.seed, **options).model
        seconds = time.monotonic() - began
        save_model(model, RESULTS / f"{name}.safetensors")
    audit = audit_figures(model, data, chosen.preset, chosen.seed, RESULTS / name)
    return {
        "real": real_figures(model, data),
        "audit": audit,
        "epochs": chosen.epochs if row == "mended" else 0,
        "seconds": seconds,
        "where": where(device),
    }


def line(name: str, rows: dict[str, Any]) -> list[str]:
    """One row of the table."""
    row = rows[name]
    real, audit = row["real"], row["audit"]
    shares = real["accuracy"], real["confident"], audit["rate"], audit["second_opinion"]["rate"]
    right, sure, fooled, second = (f"{share:.2%}" for share in shares)
    cells = [name, right, sure, audit["verdict"], fooled, second, str(audit["median_lit"])]
    return [*cells, str(audit["extra_fooled"]), str(row["epochs"]), f"{row['seconds']:.0f}"]


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
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
