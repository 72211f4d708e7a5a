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

PLUGIN = '''"""Misbehaves while it trains."""
import os, signal, sys, time
from pathlib import Path
from clgym.strategies.nmc import NMC


def child(detached):
    """A process that holds the sockets of this one and waits; its number."""
    pid = os.fork()
    if pid == 0:
        if detached:
            os.setsid()
            os.chdir("/")
        while True:
            signal.pause()
    return pid


class Bad(NMC):
    def train(self, experience):
        super().train(experience)
BODY
'''


def bad(tmp_path: Path, body: str, **options: object) -> Request:
    """A run whose strategy does this when it has trained."""
    plugin = tmp_path / "plugin" / "bad.py"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN.replace("BODY", "\n".join(f"        {x}" for x in body.splitlines())))
    request = Request("bad", "split-digits", out=tmp_path / "run", threads=1, plugins=(plugin,))
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
    request = bad(tmp_path, f"child({detached})\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkerDied, match="SIGKILL"):
        run(request)


def test_an_exit_code_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="exit code 7"):
        run(bad(tmp_path, "child(True)\nos._exit(7)"))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors")
@pytest.mark.parametrize("sandbox", ["auto", "none"])
@pytest.mark.parametrize("detached", [False, True])
def test_nothing_outlives_the_run(tmp_path: Path, detached: bool, sandbox: str) -> None:
    body = f"raise ValueError(f'pid {{child({detached})}}')"
    with pytest.raises(StrategyFailed) as caught:
        run(bad(tmp_path, body, sandbox=sandbox))
    pid = int(caught.value.found.partition("pid ")[2].partition(" ")[0])
    assert is_gone(pid)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors")
def test_a_detached_child_cannot_rewrite_the_record(tmp_path: Path) -> None:
    """It is killed with its worker; until then the sandbox keeps it off the run's folder."""
    note = tmp_path / "run" / "learner" / "pid"
    waits = (
        "if experience.index == 0:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os.setsid()\n"
        f"        out = Path({str(tmp_path / 'run')!r})\n"
        "        while not (out / 'record.json').exists():\n"
        "            time.sleep(0.001)\n"
        "        while True:\n"
        "            try:\n"
        "                (out / 'record.json').write_text('forged')\n"
        "            except OSError:\n"
        "                pass\n"
        f"    Path({str(note)!r}).write_text(str(pid))\n"
    )
    pids: list[int] = []

    def look(event: object) -> None:
        if not pids and note.is_file() and note.read_text():
            pids.append(int(note.read_text()))

    record = run(bad(tmp_path, waits), look)
    assert pids and is_gone(pids[0])
    assert json.loads((tmp_path / "run" / "record.json").read_text()) == record.model_dump(
        mode="json"
    )


def test_a_strategy_that_hangs_ends_the_run(tmp_path: Path) -> None:
    request = bad(tmp_path, "while True:\n    signal.pause()", timeout_minutes=1 / 600)
    with pytest.raises(StrategyFailed, match="--timeout"):
        run(request)


def test_a_limit_of_time_that_nothing_keeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="--engine process"):
        run(Request("nmc", "split-digits", out=tmp_path / "r", engine="inline", timeout_minutes=1))
    with pytest.raises(BadConfig, match="--engine process"):
        run(Request("nmc", "split-digits", out=tmp_path / "r", engine="inline", sandbox="landlock"))


KEEPER = '''"""Keeps what it saw in a module, and tells what it finds there."""
import os
import sys
from clgym.strategies.nmc import NMC


class Keeper(NMC):
    def setup(self, info):
        super().setup(info)
        found = getattr(sys, "kept", [])
        print("FOUND", os.getpid(), len(found), file=sys.stderr, flush=True)

    def train(self, experience):
        sys.kept = [*getattr(sys, "kept", []), experience.pixels.clone()]
        super().train(experience)
'''


def test_a_run_knows_nothing_of_the_run_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "keeper.py"
    plugin.write_text(KEEPER)
    for seed in range(3):
        request = Request("keeper", "split-digits", seed=seed, threads=1, plugins=(plugin,))
        run(replace(request, out=tmp_path / str(seed)))
    lines = [x.split() for x in capfd.readouterr().err.splitlines() if x.startswith("FOUND")]
    assert [count for _, _, count in lines] == ["0", "0", "0"]
    assert len({pid for _, pid, _ in lines}) == 3
