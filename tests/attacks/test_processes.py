"""Workers that die, hang, leave others behind, or try to know an earlier run."""

import json
import os
import select
from dataclasses import replace
from pathlib import Path

import pytest

from clgym.errors import BadConfig, StrategyFailed, WorkerDied
from clgym.gym.request import Request
from clgym.gym.run import run
from factories import copy_plugin


def misbehaving(tmp_path: Path, deed: str, detached: bool = False, **options: object) -> Request:
    """A run whose strategy does this when it has trained."""
    out = tmp_path / "run"
    plugin = copy_plugin(
        "misbehaving",
        tmp_path / "plugin",
        DEED=deed,
        DETACHED=detached,
        OUT=out,
        NOTE=out / "learner" / "pid",
    )
    request = Request("misbehaving", "split-digits", out=out, threads=1, plugins=(plugin,))
    return replace(request, **options)  # type: ignore[arg-type]


def is_gone(pid: int) -> bool:
    """Whether a process ends within 20 seconds, which nobody waits for if it has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 20)[0])
    finally:
        os.close(watched)


@pytest.mark.parametrize("detached", [False, True])
def test_a_death_is_noticed_though_a_child_lives(tmp_path: Path, detached: bool) -> None:
    """The child holds the worker's sockets: on them alone no end is to be seen."""
    with pytest.raises(WorkerDied, match="SIGKILL"):
        run(misbehaving(tmp_path, "die", detached))


def test_the_exit_code_of_a_worker_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="exit code 7"):
        run(misbehaving(tmp_path, "leave", detached=True))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors")
@pytest.mark.parametrize("sandbox", ["auto", "none"])
@pytest.mark.parametrize("detached", [False, True])
def test_nothing_outlives_the_run(tmp_path: Path, detached: bool, sandbox: str) -> None:
    with pytest.raises(StrategyFailed) as caught:
        run(misbehaving(tmp_path, "fail", detached, sandbox=sandbox))
    pid = int(caught.value.found.partition("pid ")[2].partition(" ")[0])
    assert is_gone(pid)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors")
def test_a_detached_child_cannot_rewrite_the_record(tmp_path: Path) -> None:
    """It is killed with its worker; until then the sandbox keeps it off the run's folder."""
    note = tmp_path / "run" / "learner" / "pid"
    pids: list[int] = []

    def look(event: object) -> None:
        if not pids and note.is_file() and note.read_text():
            pids.append(int(note.read_text()))

    record = run(misbehaving(tmp_path, "forge"), look)
    assert pids and is_gone(pids[0])
    assert json.loads((tmp_path / "run" / "record.json").read_text()) == record.model_dump(
        mode="json"
    )


def test_a_strategy_that_hangs_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StrategyFailed, match="--timeout"):
        run(misbehaving(tmp_path, "hang", timeout_minutes=1 / 600))


def test_a_timeout_is_refused_on_the_inline_engine(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="--engine process"):
        run(Request("nmc", "split-digits", out=tmp_path / "r", engine="inline", timeout_minutes=1))
    with pytest.raises(BadConfig, match="--engine process"):
        run(Request("nmc", "split-digits", out=tmp_path / "r", engine="inline", sandbox="landlock"))


def test_a_run_knows_nothing_of_the_run_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = copy_plugin("hoarder", tmp_path)
    for seed in range(3):
        request = Request("hoarder", "split-digits", seed=seed, threads=1, plugins=(plugin,))
        run(replace(request, out=tmp_path / str(seed)))
    lines = [x.split() for x in capfd.readouterr().err.splitlines() if x.startswith("FOUND")]
    learners = 5 + 5  # in each run one for each experience, and one for each test
    assert [count for _, _, count in lines] == ["0"] * 3 * learners
    assert len({pid for _, pid, _ in lines}) == 3 * learners
