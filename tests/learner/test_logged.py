"""Names and values that may be logged, and what a log keeps for a run that goes on."""

from typing import Any

import numpy as np
import pytest
import torch

from clgym.errors import BadAnswer, OutOfReach
from clgym.learner.logged import NumberLog, OwnNumbers
from clgym.messages import LoggedNumbers, parse_reply
from clgym.results.series import Series


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("loss", float("nan"), "expected a finite number for 'loss'.*found nan"),
        ("loss", float("-inf"), "found -inf"),
        ("loss", 10**400, "found inf"),
        ("loss", torch.tensor(1.0), r"a plain number for 'loss'.*a Tensor.*float\(tensor\)"),
        ("loss", "0.5", "found a str"),
        ("loss", None, "found a NoneType"),
        ("loss", 1j, "found a complex"),
        ("2nd", 1.0, "at most 64 of them.*'2nd'"),
        ("a\nb", 1.0, r"found 'a\\nb'"),
        ("=1+1", 1.0, "found '=1"),
        ("é", 1.0, "found"),
        ("a" * 65, 1.0, "at most 64"),
        ("", 1.0, "found ''"),
    ],
)
def test_what_is_no_number_or_name_is_refused(name: str, value: Any, words: str) -> None:
    log = NumberLog()
    with pytest.raises(BadAnswer, match=f"(?s){words}"):
        log.add({name: value})
    assert log.everything() is None


@pytest.mark.parametrize("value", [3, True, 0.5, np.float32(0.5), np.int64(7), 1.7e308])
def test_plain_numbers_of_every_kind_are_taken(value: Any) -> None:
    log = NumberLog()
    log.add({"loss/new task": value, "a" * 64: value})
    found = log.everything()
    assert found is not None and found.value.tolist() == [float(value)] * 2


def test_names_of_an_experience_are_limited() -> None:
    log = NumberLog()
    for number in range(100):
        log.add({f"n{number}": number})
    log.add({"n0": 1})
    with pytest.raises(BadAnswer, match="at most 100 names.*'n100' besides 100 others"):
        log.add({"n100": 1})


def test_a_log_that_goes_on_has_each_row_once() -> None:
    log = NumberLog()
    log.add({"a": 1, "b": 2}, images=32, epoch=1, step=1)
    assert log.news() is not None and log.news() is None
    log.add({"b": 3}, images=64, epoch=1, step=2)
    again = NumberLog()
    again.load_state_dict(log.state_dict())
    again.add({"c": 0.1, "a": 4}, images=96, epoch=1, step=3)
    news, everything = again.news(), again.everything()
    assert news is not None and everything is not None
    assert news.value.tolist() == [0.1, 4]
    assert [everything.names[i] for i in everything.name] == ["a", "b", "b", "c", "a"]
    assert everything.value.tolist() == [1, 2, 3, 0.1, 4]
    assert everything.images.tolist() == [32, 32, 64, 96, 96]


def test_what_is_logged_where_nothing_is_learned_is_refused() -> None:
    with pytest.raises(OutOfReach, match="inside train or adapt.*'loss' logged in another hook"):
        OwnNumbers()({"loss": 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": np.array([np.nan])}, "not finite"),
        ({"name": np.array([1])}, "index of a name that does not exist"),
        ({"name": np.array([-1])}, "index of a name that does not exist"),
        ({"step": np.array([1, 2])}, "different lengths"),
        ({"names": ["\x1b[31m"]}, "match"),
    ],
)
def test_a_malformed_message_of_numbers_is_refused(change: dict[str, Any], words: str) -> None:
    columns = {key: np.zeros(1, np.int64) for key in ("name", "images", "epoch", "step")}
    tree = {"names": ["a"], "value": np.zeros(1), **columns}
    assert parse_reply(LoggedNumbers, tree).names == ("a",)
    with pytest.raises(BadAnswer, match=words):
        parse_reply(LoggedNumbers, {**tree, **change})


def test_a_file_of_numbers_is_read_as_it_was_written() -> None:
    series, generator = Series(), np.random.default_rng(0)
    values = np.concatenate([generator.normal(size=20), [1.7e308, 1.7e308, 5e-324, -0.0]])
    places = {key: np.arange(24) for key in ("images", "experience", "epoch", "step")}
    series.add(("a", "b c"), {"name": np.arange(24) % 2, "value": values, **places})
    again = Series.from_csv(series.as_csv())
    assert again.as_csv() == series.as_csv() and again.summary() == series.summary()
    largest = series.summary()["a"]
    assert largest.maximum == 1.7e308 and np.isfinite(largest.mean)
