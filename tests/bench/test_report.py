"""Figures of the bench: medians of ratios, the table, the file, and the comparison of ratios."""

import json
from pathlib import Path

import numpy as np
import pytest

from clgym.bench.measure import Measurement, rounds_of, summarised
from clgym.bench.report import Report, compared, kept_report
from clgym.errors import BadConfig


def measured(ratio: float, spread: float = 0.01, name: str = "a step") -> Measurement:
    return Measurement(
        name, "bare loop", "ms", 5 * ratio, 5.0, ratio, ratio - spread, ratio + spread, 9
    )


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """Rounds on a machine that slows down: both sides slow down, their ratio stays."""
    draws = np.random.default_rng(0)
    slowness = draws.uniform(1, 9, 21)
    ratios = draws.uniform(1.0, 1.2, 21)
    costs = list(zip(slowness * ratios, slowness, strict=True))
    found = summarised("a step", "bare loop", "ms", costs, per=10)
    assert found.ratio == pytest.approx(np.median(ratios))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(ratios, [0.25, 0.75])))
    assert found.theirs == pytest.approx(np.median(slowness) / 10)


@pytest.mark.slow
def test_the_sides_take_turns_and_the_first_round_warms_up() -> None:
    now, order = [0.0], []

    def side(name: str, seconds: float) -> None:
        order.append(name)
        now[0] += seconds if len(order) > 2 else 100 * seconds

    costs = rounds_of(lambda: side("ours", 3), lambda: side("theirs", 2), 3, lambda: now[0])
    assert costs == [(3, 2)] * 3
    assert order == ["theirs", "ours", "ours", "theirs"] * 2


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (measured(1.30), "slower"),
        (measured(1.04), "same"),  # apart, but within the tolerance
        (measured(1.30, spread=0.3), "same"),  # beyond the tolerance, but not apart
        (measured(0.80), "faster"),
    ],
)
def test_ratios_are_compared_beyond_their_spread(now: Measurement, verdict: str) -> None:
    (found,), missing = compared(Report({}, (now,)), Report({}, (measured(1.0),)))
    assert (found.verdict, missing) == (verdict, [])


def test_times_are_not_compared() -> None:
    """A machine ten times slower with the same ratio."""
    slow = Measurement("a step", "bare loop", "ms", 50, 50, 1.0, 0.99, 1.01, 9)
    (found,), _ = compared(Report({}, (slow,)), Report({}, (measured(1.0),)))
    assert found.verdict == "same"


def test_kept_cases_that_were_not_measured_are_named() -> None:
    kept = Report({}, (measured(1.0), measured(1.0, name="another")))
    _, missing = compared(Report({}, (measured(1.0),)), kept)
    assert missing == ["another (bare loop)"]


def test_a_saved_report_is_read_again(tmp_path: Path) -> None:
    report = Report({"cores": 2}, (measured(1.25),))
    report.save(tmp_path)
    assert kept_report(tmp_path / "speed.json") == report
    table = (tmp_path / "speed.md").read_text()
    assert "| a step | 6.25 ms | 5 ms | 1.250 | 1.240 to 1.260 | bare loop |" in table
    assert "cores: 2" in table


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"machine": {}, "measurements": [{}]})])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(BadConfig, match="measurements of `clgym bench"):
        kept_report(tmp_path / "other.json")
