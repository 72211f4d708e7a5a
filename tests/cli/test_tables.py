"""The final table fits the console, whatever the length of the stream."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from clgym.cli._console import Console as SafeConsole
from clgym.cli._tables import show_record
from clgym.results.record import Record, make_result

HASH = "0" * 64


def record_of(size: int) -> Record:
    """A run over ``size`` experiences whose accuracies are told apart by their digits."""
    matrix = [
        [1 - (i - j) / (2 * size) if j <= i else None for j in range(size)] for i in range(size)
    ]
    after = [1 - i / (4 * size) for i in range(size)]
    result = {
        "strategy": {"name": "nmc", "source_hash": HASH, "config": {}},
        "scenario": {"name": "long", "setting": "class-incremental", "config": {}, "digest": HASH},
        "sources": [],
        "seed": 0,
        "order_seed": None,
        "class_order": [],
        "accuracy_matrix": matrix,
        "test_counts": [1] * size,
        "accuracy_after": after,
        "task_aware_accuracy_after": after,
        "last_accuracy": after[-1],
        "average_incremental_accuracy": sum(after) / size,
        "forgetting": None if size == 1 else 0.25,
        "backward_transfer": None if size == 1 else -0.25,
        "forward_transfer": None,
        "chance": [1 / (j + 1) for j in range(size)],
        "parameters": 1234567,
        "stored_samples": 100,
        "predictions": {"file": "predictions.safetensors", "sha256": HASH},
    }
    return Record.model_construct(
        result=make_result(result | {"kind": "learning"}),
        cost=_loose(Record, "cost"),
        environment=_loose(Record, "environment"),
    )


def _loose(cls: type[Record], block: str):
    """A block with a plausible value for every field that the tables show."""
    values = {
        "wall_seconds": 75.0,
        "train_seconds": [60.0],
        "predict_seconds": [5.0],
        "images_per_second": 1000.0,
        "peak_memory_bytes": 2**30,
        "device": "cpu",
        "threads": 2,
        "engine": "inline",
    }
    model = cls.model_fields[block].annotation
    return model.model_construct(**values)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 10, 11, 14, 20, 50])
@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_into_the_terminal(size, width):
    file = io.StringIO()
    show_record(Console(file=file, width=width), record_of(size), "out")
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "the strategy could have read the labels" in text
    last = f"{100 * (1 - (size - 1) / (4 * size)):.2f} %"
    assert last in text


def test_short_streams_show_every_cell_in_full():
    file = io.StringIO()
    show_record(Console(file=file, width=80), record_of(5), "out")
    for i in range(5):
        for j in range(i + 1):
            assert f"{100 - 10 * (i - j):.2f}" in file.getvalue()


def test_what_was_not_measured_is_said_with_the_reason():
    file = io.StringIO()
    show_record(Console(file=file, width=80), record_of(1), "out")
    assert "forgetting                    none (one experience)" in file.getvalue()
    assert "forward transfer              none (" in file.getvalue()


@pytest.mark.parametrize("setting", ["domain-incremental", "task-incremental"])
def test_forward_transfer_says_what_it_counts_where_domains_share_their_classes(setting):
    record = record_of(3)
    facts = record.result.scenario.model_copy(update={"setting": setting})
    result = record.result.model_copy(update={"scenario": facts, "forward_transfer": 0.3467})
    file = io.StringIO()
    console = Console(file=file, width=200)
    show_record(console, Record.model_construct(**{**dict(record), "result": result}), "out")
    line = next(line for line in file.getvalue().splitlines() if "forward transfer" in line)
    assert "+34.67 points (chance: " in line
    assert ("one that recurs was learned before" in line) is (setting == "domain-incremental")


def test_the_console_shows_what_a_terminal_would_obey() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, width=60, color_system="standard")
    table = Table("a name")
    table.add_row("\x1b]0;title\x07 \u202ecod.exe")
    console.print(table)
    console.print("[bold]own markup[/bold] \x1b[2J", highlight=False)
    text = file.getvalue()
    assert "\\u001b]0;title" in text and "\\u001b[2J" in text
    assert "\x1b[1mown markup\x1b[0m" in text  # Rich's own still work
    for obeyed in ("\x1b]0", "\x1b[2J", "\x07", "\u202e"):
        assert obeyed not in text
