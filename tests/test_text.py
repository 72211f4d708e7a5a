"""Text of any origin, shown without being obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.errors import ClgymError, UnknownName
from clgym.text import LONGEST, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ünïcode, 猫, \U0001f431\n\tindented", "Ünïcode, 猫, \U0001f431\n\tindented"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\x00", "\\u0000"),
        ("over\rwritten\x08", "over\\u000dwritten\\u0008"),
        ("\u202ecod.exe", "\\u202ecod.exe"),
        ("\u2066\u200f\u2028\x85", "\\u2066\\u200f\\u2028\\u0085"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)  # fmt: skip
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_invisible_characters_are_escaped(text: str) -> None:
    shown = printable(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in shown if c not in "\n\t")
    shown.encode()  # no lone surrogates
    assert printable(shown) == shown


def test_long_texts_are_cut_and_their_length_stated() -> None:
    assert printable("a" * 300_000) == "a" * (LONGEST - 24) + "... (300,000 characters)"
    assert len(printable("\x00" * LONGEST)) == LONGEST
    assert printable("a" * LONGEST) == "a" * LONGEST


def test_error_messages_hold_no_control_characters() -> None:
    name = "x" * 300_000 + "\x1b]0;title\x07\u202e"
    error = UnknownName(expected="a strategy", found=repr(name), fix=f"\x1b[2J{name}")
    for text in (str(error), error.found, error.fix, str(error.__reduce__()[1])):
        assert len(text) < 5 * LONGEST and text.isprintable()
    again = ClgymError.__reduce__(error)
    assert str(again[0](*again[1])) == str(error)
