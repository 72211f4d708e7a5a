"""Typed configs: reading, checking, refusing."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MultipleOf
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from clgym.config import Field, Search, When, build, fields_of, resolve, values_of
from clgym.errors import BadConfig, Renamed, UnknownName
from clgym.protocol.space import parse


@dataclass(frozen=True)
class Base:
    lr: Annotated[float, Gt(0), Le(1), Search(0.1, 0.5)] = 0.1
    """Learning rate."""


@dataclass(frozen=True)
class Child(Base):
    sizes: tuple[Annotated[int, Ge(1)], ...] = (2,)
    """Some sizes,
    on two lines."""
    kind: Literal["a", "b"] = "a"
    limit: Annotated[int, Interval(ge=0, lt=10)] | None = None
    flag: bool = False
    share: Annotated[float, Ge(0), Lt(1)] = 0.0


FIELDS = {f.name: f for f in fields_of(Child)}


def test_fields_are_read_with_help_bounds_and_choices() -> None:
    assert list(FIELDS) == ["lr", "sizes", "kind", "limit", "flag", "share"]
    assert FIELDS["lr"].help == "Learning rate."
    assert FIELDS["sizes"].help == "Some sizes, on two lines."
    assert FIELDS["lr"].bounds == {"gt": 0, "le": 1}
    assert FIELDS["sizes"].bounds == {"ge": 1}
    assert FIELDS["kind"].choices == ("a", "b")
    assert FIELDS["limit"].optional and FIELDS["limit"].bounds == {"ge": 0, "lt": 10}
    assert FIELDS["share"].limits == "at least 0 and below 1"


def test_search_values_are_read_as_a_space_says_them() -> None:
    assert FIELDS["lr"].search == {"values": [0.1, 0.5]} and FIELDS["sizes"].search is None
    ranged = Search(low=1e-5, high=1e-2, log=True, when={"kind": ["a"]})
    assert ranged.literal == {"low": 1e-5, "high": 1e-2, "log": True, "when": {"kind": ["a"]}}


@pytest.mark.parametrize("given", [{}, {"values": (1,), "low": 2}, {"values": (1,), "log": True}])
def test_search_takes_values_or_a_range(given: dict[str, Any]) -> None:
    values = given.pop("values", ())
    with pytest.raises(TypeError, match="either values, or low and high"):
        Search(*values, **given)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"lr": "0.5"}, 0.5),
        ({"lr": 1}, 1.0),
        ({"sizes": "3 4"}, (3, 4)),
        ({"sizes": "3,4"}, (3, 4)),
        ({"sizes": ["3", 4.0]}, (3, 4)),
        ({"sizes": 3}, (3,)),
        ({"limit": "7"}, 7),
        ({"limit": 7.0}, 7),
        ({"limit": None}, None),
        ({"flag": "yes"}, True),
        ({"flag": "False"}, False),
    ],
)
def test_what_is_typed_or_read_is_converted(given: dict[str, Any], wanted: object) -> None:
    ((name, _),) = given.items()
    value = getattr(build(Child, given, "child"), name)
    assert value == wanted and type(value) is type(wanted)


def test_values_are_ready_for_a_record() -> None:
    config = build(Child, {"sizes": "3 4"}, "child")
    assert config == Child(0.1, (3, 4)) and values_of(config)["sizes"] == [3, 4]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", 0.0, "a finite number, above 0 and at most 1"),
        ("lr", -1, "above 0"),
        ("lr", float("nan"), "a finite number"),
        ("lr", "inf", "a finite number"),
        ("lr", "fast", "a finite number"),
        ("lr", True, "a finite number"),
        ("lr", None, "a finite number"),
        ("sizes", (2, 0), "whole numbers, at least 1"),
        ("sizes", "2 0", "at least 1"),
        ("sizes", "2 x", "whole numbers"),
        ("sizes", None, "whole numbers"),
        ("kind", "c", "one of a, b"),
        ("kind", 3, "one of a, b"),
        ("limit", 10, "below 10 or none"),
        ("limit", 1.5, "a whole number, at least 0 and below 10 or none"),
        ("limit", "1e0", "a whole number"),
        ("flag", "maybe", "true or false"),
        ("flag", 3, "true or false"),
        ("limit", True, "a whole number"),
        ("share", 1, "below 1"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object, words: str) -> None:
    with pytest.raises(BadConfig, match=words) as caught:
        build(Child, {name: value}, "child")
    assert f"child.{name}" in str(caught.value)


@pytest.mark.parametrize("name", [*FIELDS])
def test_a_field_that_crossed_the_wire_checks_alike(name: str) -> None:
    sent = json.loads(json.dumps(dataclasses.asdict(FIELDS[name])))
    arrived = TypeAdapter(Field).validate_python(sent)
    for value in (0, 1, 0.5, 9, 10, -1, "a", "yes", "3,4", [3, 4], None, float("nan"), True):
        assert _outcome(arrived, value) == _outcome(FIELDS[name], value)


def _outcome(field: Field, value: object) -> object:
    try:
        return field.check(value, "it")
    except BadConfig as error:
        return str(error)


@dataclass(frozen=True)
class _Stepped:
    rate: Annotated[float, MultipleOf(0.5)] = 0.5


@dataclass(frozen=True)
class _OnTheList:
    sizes: Annotated[tuple[int, ...], Ge(1)] = (1,)


@dataclass(frozen=True)
class _OnText:
    name: Annotated[str, Ge(1)] = ""


@dataclass(frozen=True)
class _Half:
    count: Annotated[int, Ge(0.5)] = 1


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (_Half, "count: bounds of whole numbers must be whole"),
        (_Stepped, r"rate: MultipleOf.* is not Ge, Gt, Le, Lt, Interval, Search or When"),
        (_OnTheList, r"sizes: Ge.* applies to numbers; .*tuple\[Annotated\[int, Ge\(1\)\]"),
        (_OnText, r"name: Ge.* applies to numbers"),
    ],
)
def test_a_constraint_that_would_hold_nowhere_is_refused(cls: type, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        fields_of(cls)


def test_an_unknown_option_shows_near_matches() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'limit'"):
        resolve(fields_of(Child), {"limt": 1}, "child")


@given(st.one_of(st.floats(), st.integers(-9, 9)), st.floats(0, 1), st.floats(1, 2), st.booleans())
def test_bounds_are_what_they_say(value: float, low: float, high: float, closed: bool) -> None:
    bounds: dict[str, Any] = {"ge": low, "le": high} if closed else {"gt": low, "lt": high}
    inside = low <= value <= high if closed else low < value < high
    field = Field("x", "float", 0.0, **bounds)
    if math.isfinite(value) and inside:
        assert field.check(value, "it") == value
    else:
        with pytest.raises(BadConfig):
            field.check(value, "it")


@dataclass(frozen=True)
class Kinds:
    kind: Literal["plain", "long", "longer"] = "plain"
    length: Annotated[int, Ge(1), Search(2, 3), When("kind", "long", "longer")] = 1


def test_a_value_that_would_change_nothing_is_refused() -> None:
    fields = fields_of(Kinds)
    assert resolve(fields, {"kind": "longer", "length": 2}, "mine")["length"] == 2
    assert resolve(fields, {"kind": "plain", "length": 1}, "mine")["length"] == 1  # as in records
    with pytest.raises(BadConfig, match="mine.length only with --kind long or longer") as raised:
        resolve(fields, {"length": 2}, "mine")
    assert raised.value.found == "--length 2 with --kind plain"
    assert resolve(fields[1:], {"length": 2}, "mine") == {"length": 2}  # of a field alone


@dataclass(frozen=True)
class Misspelt:
    length: Annotated[int, When("knd", "long")] = 1


def test_a_condition_on_no_option_is_refused() -> None:
    with pytest.raises(TypeError, match="length: When names knd, no option"):
        fields_of(Misspelt)


def test_a_space_varies_a_value_only_where_it_has_an_effect() -> None:
    both = {"kind": ["plain", "long"], "length": [2, 3]}
    space = parse(both, fields_of(Kinds), "mine")
    longs = [{"kind": "long", "length": length} for length in (2, 3)]
    assert list(space.settings()) == [{"kind": "plain"}, *longs]


def test_the_former_range_names_the_present_spelling() -> None:
    with pytest.raises(Renamed, match=r"write Range\(0, 1\) as Ge\(0\), Le\(1\)"):
        exec("from clgym.config import Range")
