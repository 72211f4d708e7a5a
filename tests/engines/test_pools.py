"""Pools of workers: every job ends once, with a reply, an error, or a death that is named."""

import os
from collections import Counter
from pathlib import Path

import pytest

from clgym.engines.pool import Done, PoolSpec, WorkerPool, gather, open_pool
from clgym.errors import BadConfig, GymFailed, JobLost

TARGET = "targets:Echo"


@pytest.fixture(autouse=True)
def _found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", f"{here}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(here)


def carry_out(pool: WorkerPool, jobs: list[dict]) -> list[Done]:
    waiting, ended = [(str(i), job) for i, job in enumerate(jobs)], []
    while len(ended) < len(jobs):
        while waiting and pool.free:
            pool.submit(*waiting.pop(0))
        ended += pool.wait(5)
    return ended


def echo(count: int) -> list[dict]:
    return [{"do": "echo", "value": i} for i in range(count)]


ENGINES = [
    "process",
    "inline",
    pytest.param("ray", marks=pytest.mark.slow),
    pytest.param("slurm", marks=pytest.mark.slow),
]


def spec_of(engine: str, tmp_path: Path, workers: int = 2, **options) -> PoolSpec:
    if engine in ("ray", "slurm"):
        pytest.importorskip({"ray": "ray", "slurm": "submitit"}[engine])
    if engine == "slurm":
        options |= {"folder": str(tmp_path / "slurm"), "cluster": "local"}
    return PoolSpec(engine, workers, options=options)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_job_ends_exactly_once(engine: str, tmp_path: Path) -> None:
    pool = open_pool(spec_of(engine, tmp_path), TARGET)
    try:
        jobs = [*echo(4), {"do": "refuse"}, {"do": "raise"}]
        ended = {done.key: done for done in carry_out(pool, jobs)}
    finally:
        pool.close()
    assert sorted(ended) == [str(i) for i in range(len(jobs))]
    for i in range(4):
        assert (ended[str(i)].reply or {})["value"] == i and ended[str(i)].error is None
    assert type(ended["4"].error) is BadConfig and "this" in str(ended["4"].error)
    assert type(ended["5"].error) is GymFailed and "broken" in str(ended["5"].error)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "inline"])
def test_a_death_is_named_and_the_rest_goes_on(engine: str, tmp_path: Path) -> None:
    pool = open_pool(spec_of(engine, tmp_path), TARGET)
    try:
        ended = {d.key: d for d in carry_out(pool, [*echo(2), {"do": "die"}, *echo(2)])}
    finally:
        pool.close()
    assert [key for key, done in ended.items() if isinstance(done.error, JobLost)] == ["2"]
    assert all(ended[key].reply for key in "0134")


def test_workers_are_warm_and_replaced_when_they_die() -> None:
    pool = open_pool(PoolSpec(workers=1), TARGET)
    try:
        ended = carry_out(pool, [*echo(3), {"do": "die"}, *echo(2)])
    finally:
        pool.close()
    replies = [done.reply or {} for done in ended]
    assert [reply.get("count") for reply in replies] == [1, 2, 3, None, 1, 2]
    assert len({str(reply["pid"]) for reply in replies if reply}) == 2


def test_devices_are_given_out_in_turn_and_one_job_runs_on_a_slot() -> None:
    spec = PoolSpec(workers=4, devices=("cuda:0", "cuda:1"))
    pool = open_pool(spec, TARGET)
    try:
        for number in range(4):
            assert pool.free == 4 - number
            pool.submit(str(number), {"do": "busy", "seconds": 0.1})
        assert pool.free == 0
        ended: list[Done] = []
        while len(ended) < 4:
            ended += pool.wait(5)
    finally:
        pool.close()
    assert Counter((done.reply or {})["device"] for done in ended) == {"cuda:0": 2, "cuda:1": 2}


def test_events_come_with_their_job() -> None:
    told: list[tuple[str, dict]] = []
    pool = open_pool(PoolSpec(workers=2), TARGET, lambda key, event: told.append((key, event)))
    try:
        gather(pool, [(f"job {i}", {"do": "echo", "value": i}) for i in range(3)])
    finally:
        pool.close()
    assert sorted(told, key=str) == [(f"job {i}", {"kind": "told", "value": i}) for i in range(3)]


def test_gather_raises_what_went_wrong() -> None:
    pool = open_pool(PoolSpec(), TARGET)
    try:
        with pytest.raises(BadConfig, match="this"):
            gather(pool, [("a", {"do": "refuse"})])
    finally:
        pool.close()


def test_gather_tries_a_killed_job_once_more(tmp_path: Path) -> None:
    pool = open_pool(PoolSpec(workers=2), TARGET)
    try:
        job = {"do": "die once", "flag": str(tmp_path / "flag"), "value": 1}
        replies = gather(pool, [("a", job), ("b", {"do": "echo", "value": 2})])
        with pytest.raises(JobLost, match="SIGKILL"):
            gather(pool, [("c", {"do": "die"})])
    finally:
        pool.close()
    assert (replies["a"]["value"], replies["b"]["value"]) == (1, 2)


def test_closing_ends_busy_workers() -> None:
    pool = open_pool(PoolSpec(workers=1), TARGET)
    pool.submit("long", {"do": "busy", "seconds": 600})
    pool.wait(0.5)
    pool.close()  # the test's time limit is what fails here
    assert pool.free == 1


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(BadConfig, match="one worker"):
        open_pool(PoolSpec(workers=0), TARGET)
