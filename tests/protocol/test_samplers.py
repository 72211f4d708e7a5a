"""Draws counted: no setting twice, no value outside its range, each as often as it should be."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.config import Field
from clgym.gym.description import describe_strategy
from clgym.protocol.samplers import available, proposals, uniform
from clgym.protocol.space import Parameter, Space, find_space, parse

FIELDS = [
    Field("kind", "choice", "a", choices=("a", "b", "c")),
    Field("size", "int", 1),
    Field("share", "float", 0.5),
    Field("rate", "float", 0.1),
]
CHAIN = {
    # A child stands before its parent, and a grandchild before both.
    "rate": {"values": [0.1, 0.2], "when": {"size": [2]}},
    "size": {"values": [1, 2], "when": {"kind": ["a", "b"]}},
    "kind": ["a", "b", "c"],
}
RECORDS = Path(__file__).parents[2] / "leaderboards/records"


def drawn(space: Space, trials: int, seed: int = 0) -> list[dict]:
    return proposals("counter", space, "it", seed, trials, 0, [])


def by_hand(space: Space) -> list[dict]:
    """All settings, the conditions applied to every combination."""
    names = [p.name for p in space.parameters]
    found = []
    for values in itertools.product(*(p.choices or () for p in space.parameters)):
        config = space.active(dict(zip(names, values, strict=True)))
        if config not in found:
            found.append(config)
    return found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "literal",
    [
        {"share": [0.1, 0.2, 0.3], "kind": ["a", "b"]},
        {"size": {"low": -3, "high": 2}},
        {"size": {"low": 1, "high": 30, "log": True}},
        CHAIN,
        {},
    ],
)
def test_a_finite_space_is_used_up_and_nothing_comes_twice(literal: dict, seed: int) -> None:
    space = parse(literal, FIELDS, "it")
    everything = by_hand(space)
    configs = drawn(space, 3 * len(everything), seed)
    assert sorted(map(repr, configs)) == sorted(map(repr, everything))
    for few in range(1, len(everything)):
        assert drawn(space, few, seed) == configs[:few]


def test_the_settings_of_lame_are_all_tried() -> None:
    """Six settings; eight draws with repetition had found four of them."""
    space = find_space("lame", None, describe_strategy("lame").fields)
    assert len(by_hand(space)) == 6 == available("counter", space, 8)
    assert len({repr(config) for config in drawn(space, 8)}) == 6


def test_settings_are_those_of_all_combinations() -> None:
    space = parse(CHAIN, FIELDS, "it")
    assert len(by_hand(space)) == 7  # c; a and b with size 1; a and b with size 2 and two rates
    assert sorted(map(repr, space.settings())) == sorted(map(repr, by_hand(space)))
    assert proposals("grid", space, "it", 0, 7, 0, []) == by_hand(space)


@pytest.mark.parametrize(("low", "high"), [(-3, 3), (-5, -1), (0, 1), (-1, 0), (7, 12)])
def test_every_whole_number_comes_equally_often(low: int, high: int) -> None:
    parameter = Parameter("size", "int", None, low, high)
    draws = 3000 * (high - low + 1)
    counts = Counter(parameter.at(uniform(low, i)) for i in range(draws))
    assert set(counts) == set(range(low, high + 1))
    assert all(abs(n - 3000) < 5 * math.sqrt(3000) for n in counts.values())


@pytest.mark.parametrize(("low", "high"), [(1, 3), (2, 40)])
def test_whole_numbers_of_a_log_range_come_by_their_share(low: int, high: int) -> None:
    parameter = Parameter("size", "int", None, low, high, log=True)
    draws = 20_000
    counts = Counter(parameter.at((i + 0.5) / draws) for i in range(draws))
    edges = np.log(np.arange(low, high + 2) - 0.5)
    shares = np.diff(edges) / (edges[-1] - edges[0])
    found = np.array([counts[n] for n in range(low, high + 1)]) / draws
    assert set(counts) == set(range(low, high + 1))
    np.testing.assert_allclose(found, shares, atol=2 / draws)


_ends = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda v: v == 0 or abs(v) > 1e-6)


@given(_ends, _ends, st.floats(0, 1, exclude_max=True))
def test_a_float_never_leaves_its_range(one: float, other: float, u: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        assert low <= Parameter("rate", "float", None, low, high).at(u) <= high
    if 0 < low < high:
        assert low <= Parameter("rate", "float", None, low, high, log=True).at(u) <= high


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_a_whole_number_never_leaves_its_range(low: int, width: int, u: float) -> None:
    assert low <= Parameter("size", "int", None, low, low + width).at(u) <= low + width
    if low > 0:
        drawn = Parameter("size", "int", None, low, low + width, log=True).at(u)
        assert low <= drawn <= low + width


def test_both_ends_of_a_range_that_rounding_would_leave() -> None:
    thirds = Parameter("rate", "float", None, 1 / 3, 2 / 3)
    assert thirds.at(0.0) == 1 / 3  # six digits would give 0.333333, below it
    assert thirds.at(1 - 2**-53) == 2 / 3
    whole = Parameter("size", "int", None, 1, 1_234_567, log=True)
    assert whole.at(1 - 2**-53) == 1_234_567  # six digits would give 1,234,570


def test_a_narrow_range_has_many_values() -> None:
    """Six digits would leave two."""
    parameter = Parameter("rate", "float", None, 0.1234561, 0.1234569)
    values = {parameter.at((i + 0.5) / 500) for i in range(500)}
    assert len(values) > 250


def test_an_endless_space_has_all_trials_and_none_twice() -> None:
    space = parse({"kind": ["a", "b"], "rate": {"low": 0.1, "high": 1.0}}, FIELDS, "it")
    configs = drawn(space, 300)
    assert len(configs) == 300 == len({repr(config) for config in configs})


@pytest.mark.parametrize("ledger", sorted(RECORDS.glob("*/ledger.jsonl")), ids=lambda f: f.parent)
def test_committed_studies_tried_what_is_drawn_today(ledger: Path) -> None:
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    plan = lines[0]["body"]["plan"]
    tried = {e["body"]["trial"]: e["body"]["config"] for e in lines if e["kind"] == "trial"}
    space, seed = Space.of(plan["space"]), plan["sampler_seed"]
    configs = proposals(plan["sampler"], space, plan["strategy"], seed, plan["trials"], 0, [])
    assert configs == [tried[number] for number in sorted(tried)]
