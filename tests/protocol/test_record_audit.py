"""What the protocol knows of a record beyond its predictions."""

import json
from pathlib import Path

from clgym.protocol.record_audit import ExpectedRecord, against_plan, class_order_problems
from clgym.protocol.study import read_certificate
from clgym.results.numerics import NumericFacts
from clgym.results.stored import open_run

RECORDS = Path(__file__).parents[2] / "leaderboards/records"

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


def test_options_for_speed_are_not_those_of_a_study() -> None:
    """A run with fewer tests would hide what was forgotten."""
    file = min(RECORDS.glob("*/evaluations/1/*/record.json"))
    plan = read_certificate(file.parents[3]).body.plan
    record = open_run(file.parent).record
    wanted = ExpectedRecord(
        {**record.result.strategy.config},
        {**record.result.scenario.config},
        record.result.seed,
        None,
    )
    assert not list(against_plan(record, plan, wanted, evaluating=True))
    for options in (NumericFacts(evaluate_every="last"), NumericFacts(arithmetic="bf16")):
        result = record.result.model_copy(update={"numerics": options})
        edited = record.model_copy(update={"result": result})
        found = list(against_plan(edited, plan, wanted, evaluating=True))
        assert len(found) == 1 and "result.numerics" in found[0]
