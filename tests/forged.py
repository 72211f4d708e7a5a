"""What a patient cheat writes: perfect answers, and ledgers whose links hold."""

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

from clgym.files import canonical_json, sha256
from clgym.protocol.ledger import START, LedgerEntry
from clgym.results.metrics import average_incremental_accuracy, backward_transfer, forgetting

Lines = list[dict[str, Any]]


def perfect(record: Path) -> None:
    """Answer every test row right, and make the record follow from that."""
    content = json.loads((record / "record.json").read_text())
    result = content["result"]
    answers = load_file(record / "predictions.safetensors")
    for name in [name for name in answers if name.endswith("/predicted")]:
        answers[name] = answers[name.replace("predicted", "label")].astype(answers[name].dtype)
    data = save(answers)
    (record / "predictions.safetensors").write_bytes(data)
    matrix = [[None if v is None else 1.0 for v in row] for row in result["accuracy_matrix"]]
    for i, row in enumerate(matrix):
        step = answers[f"{i}/experience"]
        row[:] = [1.0 if (step == j).any() else None for j in range(len(row))]
    after = [1.0] * len(matrix)
    result |= {
        "accuracy_matrix": matrix,
        "accuracy_after": after,
        "task_aware_accuracy_after": after,
        "last_accuracy": 1.0,
        "average_incremental_accuracy": average_incremental_accuracy(after),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "predictions": {"file": "predictions.safetensors", "sha256": sha256(data)},
    }
    (record / "record.json").write_text(json.dumps(content))


def lines_of(study: Path) -> Lines:
    return [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]


def chain(study: Path, lines: Lines) -> None:
    """Write a ledger whose links hold."""
    prev, text = START, b""
    for number, line in enumerate(lines):
        entry = LedgerEntry.of(number, prev, line["kind"], line["time"], line["body"])
        prev, text = entry.hash, text + canonical_json(vars(entry)) + b"\n"
    (study / "ledger.jsonl").write_bytes(text)
