"""What the protocol knows of a record beyond its predictions."""

import json
from pathlib import Path

from clgym.protocol.record_audit import class_order_problems
from clgym.results.stored import open_run

SAMPLE = Path(__file__).parents[1] / "results/samples/v1-nmc/record.json"


def _problems(tmp_path: Path, increments: object) -> list[str]:
    record = json.loads(SAMPLE.read_text())
    record["result"]["part"] = [0, 1]
    record["result"]["scenario"]["config"]["increments"] = increments
    (tmp_path / "record.json").write_text(json.dumps(record))
    return list(class_order_problems(open_run(tmp_path).result))


def test_increments_that_never_end_are_named(tmp_path: Path) -> None:
    """An audit of such a record did not end either."""
    for increments, place in (([0], 0), ([2, 0], 1), ([-1], 0)):
        assert _problems(tmp_path, increments) == [
            f"result.scenario.config.increments.{place}: Input should be greater than 0"
        ]


def test_increments_of_another_type_are_named(tmp_path: Path) -> None:
    """They ended the audit with a TypeError."""
    (problem,) = _problems(tmp_path, "2")
    assert problem == "result.scenario.config.increments: Input should be a valid list"


def test_a_class_order_that_is_not_that_of_its_part_is_named(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, [2])
    assert "class_order is not the order of its seed" in problem
