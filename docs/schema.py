"""Write docs/schema.json: the JSON schema of a run folder, from the structs that read it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from blankcheck.certifying import Certificate
from blankcheck.runs.metrics import KINDS
from blankcheck.runs.schema import AttemptLine, Environment, Hardening, VerdictFile

FILES = {
    "verdict.json": VerdictFile,
    "attempts.jsonl": AttemptLine,
    "hardening.json": Hardening,
    "certificate.json": Certificate,
    "environment.json": Environment,
}
"""Of JSON lines: what a line holds."""


def schema() -> str:
    """The whole file. `files` says what each file, and each kind of metrics record, must be."""
    kinds = {f"metrics.jsonl, kind {kind}": struct for kind, struct in KINDS.items()}
    named = FILES | kinds
    references, parts = msgspec.json.schema_components(
        named.values(), ref_template="#/$defs/{name}"
    )
    for part in parts.values():
        part.pop("description", None)  # the docstrings, which stand in the reference
    said = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "written by docs/schema.py; keys that are not listed are allowed and ignored",
        "files": dict(zip(named, references, strict=True)),
        "$defs": parts,
    }
    return json.dumps(said, indent=1) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("schema.json").write_text(schema())
