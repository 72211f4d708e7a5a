"""Plans: every row where it belongs, once; columns by arrival; sizes that fit or are refused."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clgym
from clgym import registry
from clgym.config import build
from clgym.data.sources import Source, Split
from clgym.errors import BadStream
from clgym.gym.scoring import pool_after, predictions_of
from clgym.scenario import Scenario, Stream, class_permutation, split_validation


def _split(n_classes: int, per_class: int, seed: int) -> Split:
    labels = np.random.RandomState(seed).permutation(np.repeat(np.arange(n_classes), per_class))
    images = np.zeros((len(labels), 2, 2, 1), dtype=np.uint8)
    hashes = np.zeros((len(labels), 32), dtype=np.uint8)
    return Split(images=images, labels=labels, hashes=hashes, path=Path("none.npy"))


def _source(n_classes: int = 10, per_class: int = 6, name: str = "made") -> Source:
    return Source(
        name=name,
        classes=tuple(f"{name}/{c}" for c in range(n_classes)),
        train=_split(n_classes, per_class, 0),
        test=_split(n_classes, 3, 1),
        max_value=255,
        mean=(),
        std=(),
        fingerprint=f"of {name} {n_classes} {per_class}",
        flags=(),
        licence="none",
    )


def _stream(
    scenario: str, made: Source | Sequence[Source], order_seed: int | None = None, **options: Any
) -> Stream:
    cls = registry.load_class(registry.find("scenarios", scenario), Scenario)
    sources = [made] if isinstance(made, Source) else list(made)
    config = build(cls.Config, {"source": "made", **options}, scenario)
    return cls(config, scenario).stream(sources, order_seed)


def _labels(stream: Stream, source: Source, step: int, split: str) -> np.ndarray:
    rows = stream.steps[step].train if split == "train" else stream.steps[step].test
    labels = (source.train if split == "train" else source.test).labels
    return np.array(stream.columns[0])[labels[rows]]


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=6),
    seed=st.none() | st.integers(0, 2**32 - 1),
    validation=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_class_incremental_uses_every_row_once(
    sizes: list[int], seed: int | None, validation: float
) -> None:
    source = _source(sum(sizes))
    stream = _stream("class-incremental", source, seed, increments=sizes, validation=validation)
    rows = np.concatenate([np.r_[s.train, s.valid] for s in stream.steps])
    assert sorted(rows) == list(range(len(source.train.labels)))
    assert sorted(np.concatenate([s.test for s in stream.steps])) == list(range(3 * sum(sizes)))
    start = 0
    for i, size in enumerate(sizes):
        columns = tuple(range(start, start + size))
        assert stream.steps[i].classes == columns
        assert set(_labels(stream, source, i, "train")) == set(columns)
        assert set(_labels(stream, source, i, "test")) == set(columns)
        start += size
        assert stream.columns_after(i) == start


def test_seed_1993_gives_the_published_order_of_cifar100() -> None:
    assert class_permutation(100, 1993)[:10] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]
    stream = _stream("class-incremental", _source(100, 2), 1993, increments=[10])
    assert stream.class_order[:3] == ("made/68", "made/56", "made/78")
    assert len(stream) == 10


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"increments": [2]}, [2] * 5),
        ({"increments": [3], "first": 4}, [4, 3, 3]),
        ({"increments": [5, 3, 2]}, [5, 3, 2]),
        ({"increments": [10]}, [10]),
        ({"increments": [2], "classes": [0, 3, 5, 9]}, [2, 2]),
    ],
)
def test_group_sizes_follow_from_increments(options: dict, sizes: list[int]) -> None:
    stream = _stream("class-incremental", _source(), **options)
    assert [len(s.classes) for s in stream.steps] == sizes


@pytest.mark.parametrize(
    "options",
    [
        {"increments": [3]},
        {"increments": [20]},
        {"increments": []},
        {"increments": [5, 4]},
        {"increments": [2], "first": 5},
        {"increments": [2], "classes": [0, 11]},
    ],
)
def test_lossy_splits_are_refused(options: dict) -> None:
    with pytest.raises(BadStream):
        _stream("class-incremental", _source(), **options)


def test_a_stream_is_a_value() -> None:
    a = _stream("class-incremental", _source(), 3)
    b = _stream("class-incremental", _source(), 3)
    assert a == b and hash(a) == hash(b) and {a, b} == {a}
    assert a != _stream("class-incremental", _source(), 4)
    assert a != _stream("task-incremental", _source(), 3)
    assert a != _stream("online", _source(), 3)
    assert a != _stream("class-incremental", _source(per_class=7), 3)


DIGESTS = {
    0.0: "fb684898a25708cd20843e29a0b8c7cd558f119de671a27f8df576331632eb7b",
    0.1: "5a1168153566b519e1fb25dcfdb5975edd4fa8f23c70277973c81c17946a8c58",
    0.25: "c8a7679695df43922aabf4c13c50e5c74b7a2b0d7146f70e7bdb26ad3d3907ba",
    0.5: "39ca171f15e8c8ff5188a06a9e0e912c5a531aed1c93db68ba0b7298f4f1a3f3",
}


def _train_labels(stream: Stream, source: Source) -> list[np.ndarray]:
    return [_labels(stream, source, j, "train") for j in range(len(stream))]


@settings(max_examples=40, deadline=None)
@given(
    blur=st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.9]),
    disjoint=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    boundaries=st.sampled_from(["fixed", "random"]),
    seed=st.integers(0, 1000),
    order_seed=st.none() | st.integers(0, 99),
    validation=st.sampled_from([0.0, 0.2]),
)
def test_blurry_streams_deal_every_row_once_and_the_shares_they_say(
    blur: float,
    disjoint: float,
    boundaries: str,
    seed: int,
    order_seed: int | None,
    validation: float,
) -> None:
    source, exact = _source(10, 100), Fraction(str(blur))
    options = {"blur": blur, "disjoint": disjoint, "boundaries": boundaries, "blur_seed": seed}
    stream = _stream("blurry", source, order_seed, validation=validation, **options)
    trained = np.concatenate([np.r_[s.train, s.valid] for s in stream.steps])
    assert sorted(trained) == list(range(1000))
    assert sorted(np.concatenate([s.test for s in stream.steps])) == list(range(30))
    homes = {c: j for j, step in enumerate(stream.steps) for c in step.home or ()}
    assert sorted(homes) == list(range(10))
    rows = 80 if validation else 100
    away = np.zeros(10, dtype=int)
    for j, labels in enumerate(_train_labels(stream, source)):
        assert set(_labels(stream, source, j, "test")) == set(stream.steps[j].home or ())
        assert set(labels) == set(stream.steps[j].classes)
        for c, count in zip(*np.unique(labels, return_counts=True), strict=True):
            away[c] += count if homes[c] != j else 0
    leaving = int(exact * rows)
    blurry = 10 - int(Fraction(str(disjoint)) * 10)
    if boundaries == "fixed":
        assert sorted(away) == [0] * (10 - blurry) + [leaving] * blurry
        assert [len(step.home or ()) for step in stream.steps] == [2] * 5
    else:  # rows that were drawn may come back to where they were
        assert away.max() <= leaving and (away > 0).sum() <= blurry
        assert all(step.home for step in stream.steps)
    assert stream == _stream("blurry", source, order_seed, validation=validation, **options)


def test_disjoint_classes_are_shared_out_evenly() -> None:
    """i-Blurry-50-10 on five experiences of four classes: two disjoint classes in each."""
    source = _source(20, 50)
    stream = _stream("blurry", source, increments=[4], disjoint=0.5, blur=0.1)
    for j, labels in enumerate(_train_labels(stream, source)):
        here = np.bincount(labels, minlength=20)
        own = sorted(here[list(stream.steps[j].home or ())])
        assert own == [45, 45, 50, 50]
    chosen = {
        tuple(np.bincount(labels, minlength=20)[list(step.home or ())].tolist())
        for seed in range(6)
        for dealt in [_stream("blurry", source, increments=[4], disjoint=0.5, blur_seed=seed)]
        for step, labels in zip(dealt.steps, _train_labels(dealt, source), strict=True)
    }
    assert len(chosen) > 2  # which of an experience's classes are disjoint differs


def test_random_boundaries_differ_by_seed_and_leave_experiences_their_size() -> None:
    source = _source(20, 50)
    sizes = set()
    for seed in range(8):
        options = {"increments": [4], "disjoint": 0.5, "boundaries": "random", "blur_seed": seed}
        blurred = _stream("blurry", source, blur=0.4, **options)
        plain = _stream("blurry", source, blur=0.0, **options)
        sizes.add(tuple(len(step.home or ()) for step in blurred.steps))
        assert [len(s.train) for s in blurred.steps] == [len(s.train) for s in plain.steps]
        assert blurred != plain
    assert len(sizes) == 8


def test_blurry_streams_measured_at_arrival_are_what_they_were() -> None:
    """Digests of the streams before there was a choice."""
    source = _source(10, 40)
    for blur, digest in DIGESTS.items():
        stream = _stream("blurry", source, blur=blur, measured="arrival")
        assert stream.digest == digest
        if blur:  # with any blur all classes arrive in the first experience
            assert stream.columns_after(0) == 10 and stream.measured_after(0) == [0]


def test_the_task_of_a_blurry_class_is_where_it_mainly_belongs() -> None:
    source = _source(10, 40)
    stream = _stream("blurry", source)
    pool = pool_after(stream, [source], 1)
    assert set(pool.step.tolist()) == {0, 1}
    logits = np.zeros((len(pool.row), 10), dtype=np.float32)
    logits[:, 9], logits[np.arange(len(pool.row)), pool.label] = 2, 1
    answers = predictions_of(stream, pool, logits)
    outside = ~np.isin(pool.label, [9])
    assert (answers.predicted[outside] == 9).all()
    homes = [list(stream.steps[j].home or ()) for j in pool.step]
    wanted = [y if 9 not in own else 9 for y, own in zip(pool.label, homes, strict=True)]
    assert answers.task_aware.tolist() == wanted


def test_a_part_of_a_blurry_stream_keeps_its_homes() -> None:
    source = _source(10, 40)
    stream = _stream("blurry", source, disjoint=0.5)
    part = stream.part(1, 3)
    for j, step in enumerate(part.steps):
        names = {part.class_order[c] for c in step.home or ()}
        assert names == {stream.class_order[c] for c in stream.steps[j + 1].home or ()}


def test_test_rows_of_repeating_classes_are_those_that_were_asked_for() -> None:
    stream = _stream("repetition", _source(10, 40), per_class=[20, 2])
    assert sum(len(step.test) for step in stream.steps) == 20


def test_repetition_brings_classes_back_and_no_row_twice() -> None:
    source = _source(10, 40)
    stream = _stream("repetition", source, repeat=0.5)
    rows = np.concatenate([s.train for s in stream.steps])
    assert sorted(rows) == list(range(400))
    visits = [set(_labels(stream, source, j, "train")) for j in range(5)]
    assert sum(len(v) for v in visits) > 10
    for j in range(5):
        fresh = visits[j] - set().union(*visits[:j])
        assert set(_labels(stream, source, j, "test")) == fresh
        assert fresh == set(range(2 * j, 2 * j + 2))


def test_domains_share_classes_and_differ_in_transform() -> None:
    source = _source()
    permuted = _stream("domain-incremental", source, domains=3)
    assert [s.transform and s.transform.amount for s in permuted.steps] == [None, 1.0, 2.0]
    rotated = _stream("domain-incremental", source, kind="rotate", domains=4, degrees=180)
    assert [s.transform and s.transform.amount for s in rotated.steps] == [None, 45, 90, 135]
    assert permuted.measured_after(0) == [0, 1, 2]
    assert permuted.columns_after(0) == 10


def test_a_list_of_sources_is_one_domain_each() -> None:
    sources = [_source(name="a"), _source(name="b")]
    stream = _stream("domain-incremental", sources, kind="sources", source="a,b")
    assert [s.source for s in stream.steps] == [0, 1]
    with pytest.raises(BadStream, match="alike in classes"):
        _stream("domain-incremental", [sources[0], _source(4)], kind="sources", source="a,b")


@given(st.integers(1, 5), st.integers(1, 30), st.floats(0, 0.5))
def test_validation_rows_leave_training(n_classes: int, per_class: int, share: float) -> None:
    labels = np.repeat(np.arange(n_classes), per_class)
    rows = 7 * np.arange(len(labels))
    train, valid = split_validation(rows, labels, share)
    assert sorted([*train, *valid]) == rows.tolist()
    counts = np.bincount(labels[np.searchsorted(rows, valid)], minlength=n_classes)
    assert (counts == int(Fraction(str(share)) * per_class)).all()  # as written, no binary floats


def test_every_preset_on_embedded_data_is_cut() -> None:
    for entry in registry.entries("scenarios").values():
        for name, options in entry.presets.items():
            if options["source"] == "digits":
                stream = clgym.make_scenario(name)
                assert stream.name == name and len(stream) >= 1
