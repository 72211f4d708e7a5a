"""The paper's draws and its names, against the published files."""

from typing import Any

import pytest

from clgym import registry
from clgym.config import Field, fields_of
from clgym.errors import BadPlan
from clgym.protocol import gtep
from clgym.protocol.pairs import PAIRS, find_pair
from clgym.protocol.samplers import proposals
from clgym.protocol.space import find_space, parse
from clgym.strategy import Strategy

KINDS = {int: "int", float: "float", str: "str", bool: "bool"}

# Published settings of ImageNet-100 with ten tasks: trial, seven shared values, the method's own.
PUBLISHED = [
    ("replay", 8, (70, 3, 0.2, 0.1, 64, 1e-4, "step"), ()),
    ("icarl", 9, (200, 3, 0.15, 0.1, 64, 1e-4, "cosine"), (2.5, 2)),
    ("der", 9, (200, 3, 0.15, 0.1, 64, 1e-4, "cosine"), (3,)),
    ("wa", 8, (120, 3, 0.1, 0.1, 32, 1e-4, "step"), (1, 3)),
    ("bic", 8, (120, 3, 0.1, 0.1, 32, 1e-4, "step"), (1, 3, 0.1)),
    ("podnet", 15, (30, 4, 0.05, 0.1, 64, 1e-4, "step"), (3, 1.5, 20, 5, 0.005, False)),
    ("foster", 15, (30, 4, 0.05, 0.1, 64, 1e-4, "step"), (1, 1.5, 1, 0.93, 0.97, 160)),
    ("memo", 17, (120, 3, 0.15, 0.1, 512, 1e-3, "step"), (0.5, 32)),
    ("beef", 4, (120, 2, 0.2, 0.3, 128, 1e-4, "step"), (30, 0.02, 2.3)),
]


def fields(method: str) -> list[Field]:
    """A config that has every option of the paper's space."""
    found = []
    for name, given in {**gtep.SCRATCH, **gtep.PRETRAINED}[method].items():
        values = given["values"] if isinstance(given, dict) else given
        kinds = {type(value) for value in values}
        kind = "float" if float in kinds else KINDS[kinds.pop()]
        found.append(Field(name, kind, values[0]))
    return found


@pytest.mark.parametrize(("method", "trial", "shared", "own"), PUBLISHED)
def test_published_settings_are_drawn_again(method, trial, shared, own) -> None:
    space = parse(gtep.SCRATCH[method], fields(method), method)
    lists = [(p.name, p.values or ()) for p in space.parameters]
    dummy = gtep.leads_with_dummy(gtep.strategy_of(method))
    drawn = tuple(gtep.draw(lists, trial, dummy).values())
    assert drawn == (*shared, *own)


@pytest.mark.parametrize("method", list(gtep.SCRATCH))
def test_the_sampler_leaves_out_what_has_no_effect(method: str) -> None:
    name = gtep.strategy_of(method)
    space = parse(gtep.SCRATCH[method], fields(method), name)
    for config in proposals("gtep-paper", space, name, 0, 30, 0, []):
        in_steps = config["schedule"] == "step" or method == "wa"
        assert ("milestones" in config) == in_steps == ("lr_decay" in config)


def test_sixteen_trials_of_wa_drew_cosine_and_keep_their_steps() -> None:
    space = parse(gtep.SCRATCH["wa"], fields("wa"), "wa")
    drawn = proposals("gtep-paper", space, "wa", 0, 30, 0, [])
    cosine = [trial for trial, config in enumerate(drawn) if config["schedule"] == "cosine"]
    assert cosine == [0, 1, 6, 7, 9, 10, 12, 14, 18, 19, 22, 23, 25, 26, 27, 29]
    assert all({"milestones", "lr_decay"} <= config.keys() for config in drawn)


def test_the_papers_names_lead_to_the_right_strategies() -> None:
    assert gtep.strategy_of("der") == "expandable"
    assert gtep.strategy_of("replay") == "exemplar-replay"
    assert gtep.strategy_of("icarl") == "icarl"
    assert gtep.space_of("der") is None and gtep.space_of("replay") is None
    assert gtep.space_of("exemplar_replay") == gtep.SCRATCH["replay"]
    assert not gtep.leads_with_dummy("exemplar-replay")
    assert gtep.leads_with_dummy("replay") and gtep.leads_with_dummy("expandable")


def test_the_listing_tells_two_methods_called_der_apart() -> None:
    summaries = {name: registry.find("strategies", name).summary for name in ("der", "expandable")}
    assert "Dark experience replay" in summaries["der"]
    assert "DER of class-incremental learning" in summaries["expandable"]


@pytest.mark.parametrize("method", list(gtep.SCRATCH))
def test_a_strategy_beside_its_space_draws_the_papers_trials(method: str) -> None:
    """The literal beside the config is the paper's table, in the order of the draws."""
    name = gtep.strategy_of(method)
    cls = registry.load_class(registry.find("strategies", name), Strategy)
    space = find_space(name, None, fields_of(cls.Config))
    papers = find_space(name, "paper", fields_of(cls.Config))
    assert space == papers
    (wanted,) = [row for row in PUBLISHED if row[0] == method]
    _, trial, shared, own = wanted
    config = proposals("gtep-paper", space, name, 0, 30, 0, [])[trial]
    drawn = [config.get(p.name) for p in space.parameters]
    steps = [*shared, *own]
    if shared[-1] == "cosine":
        steps[1] = steps[3] = None  # dead in these trials
    assert drawn == steps


@pytest.mark.parametrize("method", list(gtep.SCRATCH))
def test_the_lite_space_is_the_papers_with_fewer_epochs_and_smaller_batches(method: str) -> None:
    """Written out here; each list keeps its length, so a draw falls on the same place of it."""
    name = gtep.strategy_of(method)
    lite = {p.name: p for p in find_space(name, "paper-lite", fields(method)).parameters}
    full = {p.name: p for p in find_space(name, "paper", fields(method)).parameters}
    assert list(lite) == list(full)
    long = (3, 7, 12, 16, 20)
    batches = (32, 64, 128) if method == "beef" else (8, 16, 32, 64, 128)
    short = {"epochs": long, "compression_epochs": long, "fusion_epochs": long}
    short |= {"finetune_epochs": (1, 2, 4, 6, 10), "batch_size": batches}
    for key in full:
        assert lite[key].values == short.get(key, full[key].values)
        assert lite[key].when == full[key].when


@pytest.mark.parametrize("name", ["aper", "l2p", "naive"])
def test_the_lite_space_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(BadPlan, match="exemplar-replay"):
        find_space(name, "paper-lite", fields("icarl"))


@pytest.mark.parametrize("method", list(gtep.PRETRAINED))
def test_pretrained_spaces_parse(method: str) -> None:
    assert parse(gtep.PRETRAINED[method], fields(method), method).size


def test_the_base_space_has_9000_settings() -> None:
    assert parse(gtep.SCRATCH["replay"], fields("replay"), "replay").size == 9000


@pytest.mark.parametrize(
    ("name", "tasks", "classes"),
    [
        ("c50-t10", 10, 50),
        ("c50-t6", 6, 50),
        ("i50-t10", 10, 50),
        ("i50-t6", 6, 50),
        ("cub-t10", 10, 100),
        ("cub-t20", 20, 100),
        ("r-t10", 10, 100),
        ("r-t20", 20, 100),
        ("r-a-t20", 20, 100),
        ("digits-t2", 2, 5),
        ("lite-c50", 5, 50),
        ("lite-c50-v2", 5, 50),
        ("lite-c20", 4, 20),
    ],
)
def test_pairs_have_the_papers_tasks(name: str, tasks: int, classes: int) -> None:
    pair = find_pair(name)
    config: dict[str, Any] = dict(pair.config)
    step = config["increments"][0]
    first = config.get("first", step)
    for side in (pair.tuning, pair.evaluation):
        assert len(side.classes or ()) == classes
        assert first + (tasks - 1) * step == classes
    assert (
        not set(pair.tuning.classes or ()) & set(pair.evaluation.classes or ()) or not pair.halves
    )


def test_the_tuning_budget_of_gtep_is_the_papers() -> None:
    others = ("digits-t2", "lite-c50", "lite-c50-v2", "lite-c20")
    papers = [p for n, p in PAIRS.items() if n not in others and p.scenario != "corruptions"]
    assert {(pair.trials, pair.seeds) for pair in papers} == {(30, 5)}
