"""What the author of a study chose by hand is said by the plan, the evaluation and the board."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import BY_AUTHOR, Board
from clgym.board.reading.studies import add_study
from clgym.cli._console import Console
from clgym.cli._trials import TrialProgress, show_certificate
from clgym.engines.pool import PoolSpec
from clgym.gym.description import describe_strategy
from clgym.protocol.evaluation import Evaluation, evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.samplers import proposals
from clgym.protocol.space import Space, find_space
from clgym.protocol.study import StudySpec, read_certificate, tune
from clgym.protocol.study_flags import LACKS, flags_of_study
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


def test_values_set_by_hand_are_not_shown_as_the_defaults(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    """Also on a terminal, which shows none of the lines of the progress."""
    for name, config in (("hand", {"power": 0.5}), ("usual", {})):
        out, text = tmp_path / name, io.StringIO()
        certificate = tuned(out, plugin, asked(mode="default", config=config))
        show_certificate(Console(file=text, width=200), certificate, out)
        assert ("chosen: the defaults" in text.getvalue()) == (name == "usual")
        assert ("set by hand: power=0.5. These are not" in text.getvalue()) == (name == "hand")


def test_plans_of_earlier_versions_say_nothing_and_keep_their_hash(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    plan = tuned(tmp_path / "study", plugin, asked(mode="default", config={"power": 0.5})).body.plan
    facts = plan.model_dump(mode="json")
    assert facts.pop("by_hand") is not None
    earlier = StudyPlan.model_validate(facts)
    assert earlier.model_dump(mode="json") == facts and earlier.set_by_hand == {}


def flags_of(certificate: Certificate) -> set[str]:
    """Flags of the study, without the one that tests with an inline engine have."""
    return {*flags_of_study(certificate)} - {LACKS["process"]}


def test_a_space_of_the_author_in_which_nothing_matters_is_flagged(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    """The important option is fixed, and an option without effect is tuned instead of it."""
    space = tmp_path / "space.json"
    space.write_text('{"lr": [0.1, 0.2]}')
    study = asked(config={"power": 0.5}, space=str(space), trials=2, seeds=(0,))
    assert flags_of(tuned(tmp_path / "study", plugin, study)) == {
        "set by hand: power=0.5",
        "the search space is not the strategy's own",
        "all trials have the same scores",
    }


def test_a_sampler_seed_that_draws_one_value_is_flagged(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    space = find_space("power", None, describe_strategy("power", (plugin,)).fields, (plugin,))
    seed = next(seed for seed in range(1, 999) if _powers(space, seed) == {0.5})
    study = asked(sampler_seed=seed, trials=2, seeds=(0,))
    certificate = tuned(tmp_path / "study", plugin, study)
    assert flags_of(certificate) == {
        f"the sampler's seed is {seed} instead of 0",
        "all trials have the same scores",
    }
    again = certificate.body.model_copy(update={"trials": certificate.body.trials * 2})
    same = "all trials have the same power=0.5"  # of four values
    assert same in flags_of(certificate.model_copy(update={"body": again}))
    for changed, usual in (({"sampler": "grid"}, None), ({"one_of": (2, 3)}, 1)):
        found = [flag for flag in flags_of(with_plan(certificate, **changed)) if "seed" in flag]
        wanted = [] if usual is None else [f"the sampler's seed is {seed} instead of {usual}"]
        assert found == wanted
    member = with_plan(certificate, one_of=(2, 3), sampler_seed=1)
    assert not [flag for flag in flags_of(member) if "seed" in flag]


def _powers(space: Space, seed: int) -> set[object]:
    return {config["power"] for config in proposals("counter", space, "power", seed, 2, 0, [])}


def with_plan(certificate: Certificate, **changed: object) -> Certificate:
    plan = certificate.body.plan.model_copy(update=changed)
    return certificate.model_copy(
        update={"body": certificate.body.model_copy(update={"plan": plan})}
    )


def test_a_study_that_chose_something_is_not_flagged_for_agreements_by_chance(
    finished: Path,
) -> None:
    """Three trials drew one of three values."""
    certificate = read_certificate(finished)
    assert {trial.config["batch_size"] for trial in certificate.body.trials} == {256}
    assert flags_of(certificate) == set()
    twice = certificate.body.model_copy(update={"trials": certificate.body.trials * 2})
    assert flags_of(certificate.model_copy(update={"body": twice})) == {
        "all trials have the same batch_size=256"
    }


def test_a_file_with_the_strategys_own_space_is_its_own(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"power": [0.5, 1.0, 2.0, 4.0], "batch_size": [64, 128, 256]}')
    study = asked(space=str(space), trials=1, seeds=(0,), config={"batch_size": 64})
    assert flags_of(tuned(tmp_path / "study", plugin, study)) == {"set by hand: batch_size=64"}
