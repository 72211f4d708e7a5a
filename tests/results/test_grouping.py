"""Runs that belong together: by seeds, by method, by stream."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.results.grouping import by_seed, classifier_of, method_of, stream_of
from clgym.results.stored import open_run


def test_runs_are_grouped_by_both_seeds_in_order(write_stored: Callable, tmp_path: Path) -> None:
    seeds = [(1, None), (0, 2), (0, None), (0, 0), (1, None)]
    runs = [
        open_run(write_stored(tmp_path / str(n), seed=seed, order_seed=order))
        for n, (seed, order) in enumerate(seeds)
    ]
    groups = by_seed(runs, lambda run: run.result)
    names = {key: [run.folder.name for run in group] for key, group in groups.items()}
    assert list(names.items()) == [
        ((0, -1), ["2"]), ((0, 0), ["3"]), ((0, 2), ["1"]), ((1, -1), ["0", "4"]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["learning", "adaptation", "two-phases"])
def test_seeds_do_not_make_another_method_and_all_else_does(
    write_stored: Callable, tmp_path: Path, kind: str
) -> None:
    first = open_run(write_stored(tmp_path / "first", kind)).result
    other = open_run(write_stored(tmp_path / "seed", kind, draw=1, seed=3, order_seed=4)).result
    assert method_of(first) == method_of(other)
    source = {"name": "toys", "fingerprint": "e" * 64, "flags": []}
    strategy = {"name": "toy", "source_hash": "b" * 64, "config": {"lr": 0.2}}
    for n, facts in enumerate(
        ({"sources": [source]}, {"strategy": strategy}, {"part": (0, 1)}, {"scored_on": "valid"})
    ):
        changed = open_run(write_stored(tmp_path / str(n), kind, **facts)).result
        assert method_of(changed) != method_of(first)


def test_a_classifier_that_was_given_tells_streams_apart(
    write_stored: Callable, tmp_path: Path
) -> None:
    results = {
        kind: open_run(write_stored(tmp_path / kind, kind)).result
        for kind in ("learning", "adaptation", "two-phases")
    }
    assert {kind: classifier_of(result) for kind, result in results.items()} == {
        "learning": None, "adaptation": "a" * 64, "two-phases": None,
    }  # fmt: skip
    assert stream_of(results["adaptation"])["model"] == ["tiny", "a" * 64]
