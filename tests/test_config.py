"""Typed configs: reading, checking, refusing."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.config import Range, build, fields_of, resolve, values_of
from clgym.errors import BadConfig, UnknownName


@dataclass(frozen=True)
class Base:
    lr: Annotated[float, Range(0, 1, exclusive=True)] = 0.1
    """Learning rate."""


@dataclass(frozen=True)
class Child(Base):
    sizes: Annotated[tuple[int, ...], Range(1)] = (2,)
    """Some sizes,
    on two lines."""
    kind: Literal["a", "b"] = "a"
    limit: Annotated[int, Range(0, 9)] | None = None
    flag: bool = False


def test_fields_are_read_with_help_bounds_and_choices() -> None:
    fields = {f.name: f for f in fields_of(Child)}
    assert list(fields) == ["lr", "sizes", "kind", "limit", "flag"]
    assert fields["lr"].help == "Learning rate."
    assert fields["sizes"].help == "Some sizes, on two lines."
    assert (fields["lr"].low, fields["lr"].high, fields["lr"].exclusive) == (0, 1, True)
    assert fields["kind"].choices == ("a", "b")
    assert fields["limit"].optional and fields["limit"].high == 9


def test_text_from_a_command_line_is_converted() -> None:
    given = {"lr": "0.5", "sizes": "3 4", "limit": "7", "flag": "true"}
    config = build(Child, given, "child")
    assert config == Child(0.5, (3, 4), "a", 7, True)
    assert values_of(config)["sizes"] == [3, 4]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", 0.0, "above 0 and at most 1"),
        ("lr", -1, "above 0"),
        ("lr", float("nan"), "above 0"),
        ("lr", float("inf"), "above 0"),
        ("lr", "fast", "a number"),
        ("sizes", (2, 0), "at least 1"),
        ("kind", "c", "one of a, b"),
        ("limit", 10, "at most 9"),
        ("limit", 1.5, "a whole number or none"),
        ("flag", "maybe", "true or false"),
        ("limit", True, "a whole number"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object, words: str) -> None:
    with pytest.raises(BadConfig, match=words) as caught:
        build(Child, {name: value}, "child")
    assert f"child.{name}" in str(caught.value)


def test_unknown_option_shows_near_matches() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'limit'"):
        resolve(fields_of(Child), {"limt": 1}, "child")


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.floats(1, 2))
def test_range_is_what_it_says(value: float, low: float, high: float) -> None:
    assert (value in Range(low, high)) == (low <= value <= high)
    assert (value in Range(low, high, exclusive=True)) == (low < value <= high)
