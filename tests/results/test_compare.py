"""Paired tests against closed forms and SciPy's; whole comparisons against the stored answers."""

import itertools
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import stats

from clgym.errors import BadRecord
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.compare import (
    Difference,
    SamplePair,
    compare,
    mcnemar,
    over_samples,
    over_seeds,
)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(only_a, only_b):
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum((Fraction(math.comb(n, i), 2**n) for i in range(k + 1)), Fraction(0))
    expected = float(min(Fraction(1), 2 * tail))
    assert mcnemar(SamplePair(only_a, only_b, 200)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(3000, 3100), (10, 2000), (1, 0), (0, 0)])
def test_mcnemar_agrees_with_scipy_on_many_rows(only_a, only_b):
    n = only_a + only_b
    expected = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert mcnemar(SamplePair(only_a, only_b, 10_000)) == pytest.approx(expected, rel=1e-9)


def test_interval_by_hand():
    # 14 rows only A has right, 6 only B, of 98: adjusted 0.15 and 0.07 of 100.
    found = over_samples(SamplePair(14, 6, 98))
    spread = math.sqrt((0.15 + 0.07 - 0.08**2) / 100)
    assert found.mean == pytest.approx(8 / 98)
    assert found.low == pytest.approx(0.08 - 1.959963984540054 * spread)
    assert found.high == pytest.approx(0.08 + 1.959963984540054 * spread)
    assert found.n == 98


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_interval_is_antisymmetric_and_inside(only_a, only_b, rest):
    n = only_a + only_b + rest + 1
    one, other = (
        over_samples(SamplePair(only_a, only_b, n)),
        over_samples(SamplePair(only_b, only_a, n)),
    )
    assert one.low is not None and one.high is not None and other.low is not None
    assert -1 <= one.low <= one.high <= 1
    assert one.high == pytest.approx(-other.low)
    assert one.p == other.p


def test_the_interval_covers_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth, inside = 0.12 - 0.05, 0
    for _ in range(2000):
        only_a, only_b, _ = generator.multinomial(100, [0.12, 0.05, 0.83])
        found = over_samples(SamplePair(int(only_a), int(only_b), 100))
        assert found.low is not None and found.high is not None
        inside += found.low <= truth <= found.high
    assert 0.93 < inside / 2000 < 0.98


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_seeds_agree_with_scipy(values):
    a, b = np.array(values).T
    found = over_seeds(a, b)
    if np.std(a - b) < 1e-9:
        return
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.low == pytest.approx(interval.low, abs=1e-9)
    assert found.high == pytest.approx(interval.high, abs=1e-9)


def test_seeds_that_change_nothing_are_not_tested():
    assert over_seeds([0.5, 0.7, 0.9], [0.4, 0.6, 0.8]).p is None
    assert over_seeds([0.5], [0.25]) == Difference(0.25, None, None, None, 1)


# --- whole comparisons ---------------------------------------------------------------------------

SHORT = {"corruptions": "brightness,contrast", "images": 48}
LEARNED = {"base": "naive", "base.epochs": 1}


def _run(
    out: Path, strategy: str, scenario: str, config: dict, options: dict, seeds=(0, 1), **more
) -> None:
    for seed in seeds:
        request = Request(
            strategy,
            scenario,
            strategy_config=config,
            scenario_config=options,
            seed=seed,
            out=out / f"seed-{seed}",
            engine="inline",
            **more,
        )
        run(request)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on an adaptation stream, over two seeds, and on one of two phases."""
    out = tmp_path_factory.mktemp("compared")
    for method in ("source", "bn-1"):
        _run(out / method, method, "digits-c", {}, SHORT)
        config = {**LEARNED, "method": method}
        where = out / f"two-{method}"
        _run(where, "learn-then-adapt", "learn-then-shift-digits", config, SHORT, seeds=(0,))
    return out


def _hits(folder: Path, prefix: str) -> list[np.ndarray]:
    """Which answers of each segment are right, image by image, from the file alone."""
    answers = load_file(folder / "predictions.safetensors")
    found = []
    for i in itertools.count():
        if f"{prefix}{i}/predicted" not in answers:
            return found
        right = answers[f"{prefix}{i}/predicted"] == answers[f"{prefix}{i}/label"]
        # Every run has an order of its own.
        found.append(right[np.argsort(answers[f"{prefix}{i}/row"])])
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "prefix"), [("", ""), ("two-", "shift/")])
def test_adaptation_is_compared_segment_by_segment(runs: Path, kind: str, prefix: str) -> None:
    sides = [runs / f"{kind}source", runs / f"{kind}bn-1"]
    found = compare(*sides)
    assert found.adaptation is not None and found.notes == []
    for pair in found.adaptation.pairs:
        one, other = (_hits(side / f"seed-{pair.seed}", prefix) for side in sides)
        assert [s.name for s in pair.segments] == ["brightness-5", "contrast-5"]
        for segment, x, y in zip(pair.segments, one, other, strict=True):
            assert (segment.counts.only_a, segment.counts.only_b) == (
                int((x & ~y).sum()),
                int((y & ~x).sum()),
            )
            assert segment.counts.n == 48
            assert segment.a == pytest.approx(1 - x.mean())
            assert segment.b == pytest.approx(1 - y.mean())
            assert segment.samples.mean == pytest.approx(y.mean() - x.mean())
            n = int((x ^ y).sum())
            p = stats.binomtest(int((x & ~y).sum()), n, 0.5).pvalue if n else 1.0
            assert segment.samples.p == pytest.approx(p)
        x, y = np.concatenate(one), np.concatenate(other)
        assert pair.samples.mean == pytest.approx(y.mean() - x.mean()) and pair.counts.n == 96
        assert pair.a == pytest.approx(1 - np.mean([hits.mean() for hits in one]))
    pairs = found.adaptation.pairs
    differences = np.array([pair.a for pair in pairs]) - np.array([pair.b for pair in pairs])
    assert found.adaptation.mean_error.mean == pytest.approx(differences.mean())


@pytest.mark.slow
def test_both_phases_are_compared_each_by_itself(runs: Path) -> None:
    """The learning is one; before, nothing else was looked at and the difference was 0."""
    found = compare(runs / "two-source", runs / "two-bn-1")
    assert (found.a, found.b) == (
        "naive with learn-then-adapt (method source)",
        "naive with learn-then-adapt (method bn-1)",
    )
    assert found.last is not None and found.last.mean == 0 and len(found.pairs) == 1
    assert found.adaptation is not None and found.adaptation.mean_error.mean != 0
    alone = compare(runs / "source", runs / "bn-1")
    assert (alone.pairs, alone.last, alone.average) == ([], None, None)


@pytest.mark.slow
def test_other_answers_for_other_images_are_refused(runs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs / "bn-1/seed-0", tmp_path / "moved"))
    answers = load_file(folder / "predictions.safetensors")
    answers["1/row"] = answers["1/row"] + 1
    save_file(answers, folder / "predictions.safetensors")
    with pytest.raises(BadRecord, match="other content"):
        compare(runs / "source/seed-0", folder)
    record = json.loads((folder / "record.json").read_text())
    digest = sha256((folder / "predictions.safetensors").read_bytes())
    record["result"]["predictions"]["sha256"] = digest
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(BadRecord, match="another row"):
        compare(runs / "source/seed-0", folder)


@pytest.mark.slow
def test_another_classifier_is_said_and_never_on_one_side(runs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs / "bn-1", tmp_path / "bn-1"))
    for seed in (0, 1):
        file = folder / f"seed-{seed}/record.json"
        record = json.loads(file.read_text())
        record["result"]["adaptation"]["model"]["sha256"] = "0" * 64
        file.write_text(json.dumps(record))
        if seed == 0:
            with pytest.raises(BadRecord, match="differ only in their seeds"):
                compare(runs / "source", folder)
    assert "different classifiers" in compare(runs / "source", folder).notes[0]


def test_other_class_orders_are_said_as_such(tmp_path: Path) -> None:
    for order in (3, 4):
        _run(tmp_path / str(order), "nmc", "split-digits", {}, {}, order_seed=order)
    words = (
        "the same class orders; found seed 0 with order seed 3, seed 1 with order seed 3 against "
        "seed 0 with order seed 4, seed 1 with order seed 4. Run both sides with the same --order"
    )
    with pytest.raises(BadRecord, match=words):
        compare(tmp_path / "3", tmp_path / "4")
    shutil.rmtree(tmp_path / "4/seed-1")
    shutil.copytree(tmp_path / "3/seed-1", tmp_path / "4/seed-1")
    found = compare(tmp_path / "3", tmp_path / "4")
    assert found.last is not None and found.last.n == 1
    assert found.notes == [
        "left out, since only A has them: seed 0 with order seed 3",
        "left out, since only B has them: seed 0 with order seed 4",
    ]
