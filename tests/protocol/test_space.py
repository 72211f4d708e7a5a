"""Search spaces and samplers."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym import registry
from clgym.config import Field
from clgym.errors import BadPlan
from clgym.gym.description import describe_strategy
from clgym.learner.assembly import config_fields, strategy_class
from clgym.protocol.samplers import proposals, uniform
from clgym.protocol.space import Space, find_space, literal_in, parse
from factories import copy_plugin

FIELDS = [
    Field("lr", "float", 0.1, gt=0.0),
    Field("epochs", "int", 1, ge=1),
    Field("schedule", "choice", "step", choices=("step", "cosine")),
    Field("steps", "int", 2, ge=1),
    Field("decay", "float", 0.1, ge=0.0),
]
LITERAL = {
    "lr": {"low": 0.001, "high": 1.0, "log": True},
    "epochs": {"low": 1, "high": 5},
    "schedule": ["step", "cosine"],
    "steps": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "decay": {"values": [0.1, 0.5], "when": {"steps": [3, 4]}},
}


def space() -> Space:
    return parse(LITERAL, FIELDS, "it")


@pytest.mark.parametrize(
    ("literal", "words"),
    [
        ({"rate": [1.0]}, "'lr'|no option"),
        ({"lr": [0.0]}, "above 0"),
        ({"lr": []}, "no values"),
        ({"lr": [0.1, 0.1]}, "twice"),
        ({"lr": {"low": 1.0, "high": 0.1}}, "range"),
        ({"lr": {"low": 0.1}}, "high"),
        ({"lr": 0.1}, "0.1"),
        ({"lr": {"values": [0.1], "wehn": {}}}, "wehn"),
        ({"schedule": ["linear"]}, "step, cosine"),
        ({"lr": {"values": [0.1], "when": {"steps": [2]}}}, "not in the space"),
        (
            {
                "steps": {"values": [2], "when": {"decay": [0.1]}},
                "decay": {"values": [0.1], "when": {"steps": [2]}},
            },
            "circle",
        ),
    ],
)
def test_bad_spaces_are_named(literal: dict, words: str) -> None:
    with pytest.raises(BadPlan, match=words):
        parse(literal, FIELDS, "it")


def test_conditions_hold_through_chains() -> None:
    values = {"lr": 0.1, "epochs": 2, "schedule": "cosine", "steps": 3, "decay": 0.5}
    assert space().active(values) == {"lr": 0.1, "epochs": 2, "schedule": "cosine"}
    assert space().active({**values, "schedule": "step"}) == {**values, "schedule": "step"}
    assert "decay" not in space().active({**values, "schedule": "step", "steps": 2})


def test_what_is_fixed_leaves_the_space() -> None:
    left = space().without({"schedule": "step", "steps": 2})
    assert [p.name for p in left.parameters] == ["lr", "epochs"]
    left = space().without({"schedule": "step"})
    assert left.active({"lr": 1.0, "epochs": 1, "steps": 3, "decay": 0.1})["decay"] == 0.1


def test_a_space_survives_its_description() -> None:
    described = json.loads(json.dumps(space().describe()))
    assert Space.of(described) == space()


@given(st.integers(0, 2**31), st.integers(0, 500))
def test_draws_lie_in_the_space_and_depend_on_the_key_alone(seed: int, trial: int) -> None:
    configs: Any = proposals("counter", space(), "it", seed, trial + 1, 0, [])
    config = configs[trial]
    assert config == proposals("counter", space(), "it", seed, trial + 9, 0, [])[trial]
    assert 0.001 <= config["lr"] <= 1.0 and config["epochs"] in range(1, 6)
    assert ("steps" in config) == (config["schedule"] == "step")


def test_draws_are_uniform() -> None:
    configs: Any = proposals("counter", space(), "it", 3, 5000, 0, [])
    counts = Counter(config["epochs"] for config in configs)
    assert set(counts) == {1, 2, 3, 4, 5} and all(abs(n - 1000) < 120 for n in counts.values())
    below = sum(config["lr"] < 10**-1.5 for config in configs)
    assert abs(below - 2500) < 180, "log-uniform: half of the draws below the geometric middle"


def test_methods_share_the_draws_of_equal_parameters() -> None:
    other = parse({"schedule": ["step", "cosine"], "lr": LITERAL["lr"]}, FIELDS, "other")
    pairs = zip(
        proposals("counter", space(), "it", 5, 20, 0, []),
        proposals("counter", other, "other", 5, 20, 0, []),
        strict=True,
    )
    assert all(a["lr"] == b["lr"] and a["schedule"] == b["schedule"] for a, b in pairs)


def test_uniform_is_the_same_everywhere() -> None:
    assert uniform("clgym", 0, 0, "lr") == 0.5115238259458759


def test_the_grid_has_every_setting_once() -> None:
    small = parse({k: LITERAL[k] for k in ("schedule", "steps")}, FIELDS, "it")
    configs = proposals("grid", small, "it", 0, 4, 0, [])
    assert configs == [
        {"schedule": "step", "steps": 2},
        {"schedule": "step", "steps": 3},
        {"schedule": "step", "steps": 4},
        {"schedule": "cosine"},
    ]
    with pytest.raises(BadPlan, match="at most 4"):
        proposals("grid", small, "it", 0, 5, 0, [])
    with pytest.raises(BadPlan, match="finite"):
        proposals("grid", space(), "it", 0, 5, 0, [])


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_adaptive_samplers_do_not_care_when_they_are_asked(sampler: str) -> None:
    count = 32
    scores = [((7 * i) % 11) / 11 if i % 5 else None for i in range(count)]
    whole = proposals(sampler, space(), "it", 1, count, 4, scores)
    assert len(whole) == count
    for known in (0, 1, 3, 4, 7, 8, 15, 16, 30, 32):
        partial = proposals(sampler, space(), "it", 1, count, 4, scores[:known])
        assert partial == whole[: min(count, 4 * (known // 4 + 1))]
    other = proposals(sampler, space(), "it", 1, count, 4, [i / count for i in range(count)])
    assert other[:4] == whole[:4] and other[4:] != whole[4:], "scores must matter"


def _built_in() -> list[str]:
    """All built-in strategies; of one with variants those that its SPACE names."""
    found = []
    for name, entry in registry.entries("strategies").items():
        named = literal_in(entry.path, "SPACE")
        found += [f"{name}:{v}" for v in named] if entry.variants else [name]
    return found


def test_every_space_beside_a_config_fits_it() -> None:
    sizes = {}
    for name in _built_in():
        try:
            space = find_space(name, None, config_fields(strategy_class(name), {}))
            sizes[name] = len(space.parameters)
        except BadPlan as error:
            assert error.found == "none", error
    few = {"tent": 2, "lame": 2, "adabn": 2, "rmt": 3, "mos": 4, "replay": 6, "avalanche:EWC": 6}
    assert few.items() <= sizes.items()


def test_search_values_at_the_options_are_the_space(tmp_path: Path) -> None:
    file = copy_plugin("searched", tmp_path)
    fields = describe_strategy("searched", [file]).fields
    found = find_space("searched", None, fields, [file])
    assert found.describe() == [
        {"name": "power", "kind": "float", "low": 0.5, "high": 4.0, "log": True},
        {"name": "centre", "kind": "bool", "values": [True, False]},
        {"name": "widths", "kind": "ints", "values": [(8,), (8, 4)], "when": {"centre": [True]}},
    ]
    file.write_text(file.read_text() + '\nSPACE = {"power": [1.0]}\n')
    assert [p.name for p in find_space("searched", None, fields, [file]).parameters] == ["power"]


def test_search_values_of_a_wrapped_strategy_are_its_own(tmp_path: Path) -> None:
    files = [copy_plugin(name, tmp_path) for name in ("over", "searched")]
    fields = describe_strategy("over", files, {"base": "searched"}).fields
    assert "base.power" in [f.name for f in fields]
    with pytest.raises(BadPlan, match="search values for over"):
        find_space("over", None, fields, files)


@pytest.mark.parametrize(
    "text",
    [
        'SPACE = {"lr": [0.1, 0.2]}',
        'SPACE: dict[str, list[float]] = {"lr": [0.1, 0.2]}',
        'SPACE = OTHER = {"lr": [0.1, 0.2]}',
        'SPACE = {"lr": [0.3]}\nSPACE = {"lr": [0.1, 0.2]}',
    ],
)
def test_a_dictionary_is_read_as_python_would_have_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_text(f"NOTE: str\n{text}\n")
    assert literal_in(file, "SPACE") == {"lr": [0.1, 0.2]}
    assert literal_in(file, "NOTE") == literal_in(file, "STABILITY") == {}


@pytest.mark.parametrize(
    "line",
    [
        "SPACE = {'lr': [n / 10 for n in range(3)]}",
        "SPACE = dict(lr=[0.1])",
        "SPACE = ['lr']",
        "SPACE = {[]: 1}",
        "SPACE |= {'lr': [0.1]}",
        "SPACE['lr'] = [0.1]",
        "SPACE.update(lr=[0.1])",
        "del SPACE",
        "if True: SPACE = {'lr': [0.1]}",
        "from elsewhere import SPACE",
    ],
)
def test_a_dictionary_that_is_made_in_another_way_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "it.py"
    file.write_text(f"SPACE = {{'epochs': [1]}}\n{line}\n")
    with pytest.raises(BadPlan, match="SPACE in it.py as a literal dictionary"):
        literal_in(file, "SPACE")


def test_a_search_space_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('lr = [0.1, 0.2]\nsteps = {values = [2, 3], when = {schedule = ["step"]}}\n')
    with pytest.raises(BadPlan, match="schedule"):
        find_space("replay", str(file), FIELDS)
    file.write_text("lr = [0.1, 0.2]\n")
    assert find_space("replay", str(file), FIELDS).size == 2
