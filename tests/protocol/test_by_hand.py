"""What the author of a study chose by hand is said by the plan, the evaluation and the board."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import BY_AUTHOR, Board
from clgym.board.reading.studies import add_study
from clgym.cli._trials import TrialProgress
from clgym.engines.pool import PoolSpec
from clgym.protocol.evaluation import Evaluation, evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from clgym.protocol.verify import verify

Ask = Callable[..., StudySpec]
INLINE = PoolSpec("inline")


def tuned(out: Path, plugin: Path, asked: StudySpec) -> Certificate:
    return tune(asked, ExecutionOptions(out, INLINE, plugins=(plugin,)))


def evaluated(out: Path, plugin: Path, asked: StudySpec) -> Evaluation:
    tuned(out, plugin, asked)
    return evaluate(out, INLINE, plugins=(plugin,))


def test_defaults_with_an_option_set_by_hand_are_flagged_and_not_ranked(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    board = Board()
    for name, config in (("hand", {"power": 0.5}), ("usual", {}), ("same", {"power": 1.0})):
        study = asked(mode="default", config=config, seeds=(0, 1))
        flags = evaluated(tmp_path / "records" / name, plugin, study).flags
        assert ("set by hand: power=0.5" in flags) == (name == "hand")
        assert verify(tmp_path / "records" / name).problems == []
        add_study(board, tmp_path, tmp_path / "records" / name)
    (table,) = tables_of(board)
    ranked = {row.entry.config["power"]: (row.mode, row.rank is not None) for row in table.rows}
    assert ranked == {0.5: (BY_AUTHOR, False), 1.0: ("default", True)}


@pytest.mark.parametrize(
    ("config", "by_hand"),
    [
        ({"fails": 3.0}, {"fails": 3.0}),
        ({"fails": -1.0}, {}),
        ({"power": 1.0}, {"power": 1.0}),
        ({"batch-size": 128}, {"batch_size": 128}),
    ],
    ids=["another value", "the default", "the default of a tuned option", "with a dash"],
)
def test_options_that_are_withdrawn_from_tuning_are_set_by_hand(
    tmp_path: Path, plugin: Path, asked: Ask, config: dict[str, float], by_hand: dict[str, float]
) -> None:
    certificate = tuned(tmp_path / "study", plugin, asked(config=config, trials=1, seeds=(0,)))
    assert certificate.body.plan.set_by_hand == by_hand


def test_what_the_pair_states_is_not_set_by_hand(tmp_path: Path) -> None:
    found = {}
    for size in (50, 60):
        asked = StudySpec("replay", find_pair("digits-t2"), {"memory_size": size}, mode="default")
        plan = tune(asked, ExecutionOptions(tmp_path / str(size), INLINE)).body.plan
        found[size] = plan.set_by_hand
    assert found == {50: {}, 60: {"memory_size": 60}}


def test_tuning_says_at_once_what_options_set_by_hand_mean(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    plan = tuned(tmp_path / "study", plugin, asked(mode="default", config={"power": 0.5})).body.plan
    lines = TrialProgress().update({"kind": "plan", "plan": plan})
    assert lines[1].startswith("set by hand: power=0.5. These are not the strategy's defaults")
    transfer = plan.model_copy(update={"mode": "transfer"})
    assert "without a rank" not in TrialProgress().update({"kind": "plan", "plan": transfer})[1]


def test_plans_of_earlier_versions_say_nothing_and_keep_their_hash(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    plan = tuned(tmp_path / "study", plugin, asked(mode="default", config={"power": 0.5})).body.plan
    facts = plan.model_dump(mode="json")
    assert facts.pop("by_hand") is not None
    earlier = StudyPlan.model_validate(facts)
    assert earlier.model_dump(mode="json") == facts and earlier.set_by_hand == {}
