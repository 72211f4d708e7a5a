"""Damaged files of a run: a named error, or the result of an undisturbed run. Never another one."""

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.errors import BadOutput, ClgymError
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import Result
from clgym.results.stored import open_run
from factories import interrupt


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path, Result]:
    """A request, what an interruption inside its third experience left, and its whole result."""
    return interrupt(tmp_path_factory.mktemp("interrupted"), "split-digits")


def files_of(folder: Path) -> list[str]:
    """All files of a run, the learner's states too, by their paths inside the folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip some bits, cut the end off, or append bytes: at random places."""
    kind = chance.choice(["flip", "cut", "append"]) if data else "append"
    if kind == "cut":
        return data[: chance.randrange(len(data))]
    if kind == "append":
        return data + chance.randbytes(chance.randint(1, 100))
    changed = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def resumed_after_damage(
    interrupted: tuple[Request, Path, Result], out: Path, name: str, chance: random.Random
) -> str:
    request, cut, whole = interrupted
    shutil.copytree(cut, out)
    (out / name).write_bytes(mutated((out / name).read_bytes(), chance))
    try:
        result = run(replace(request, out=out)).result
    except ClgymError as error:
        return type(error).__name__
    assert result == whole, f"another result after damage to {name}"
    return "recovered"


def test_an_interruption_leaves_all_kinds_of_files(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, whole = interrupted
    names = sorted(name.rpartition("/")[2] for name in files_of(cut))
    assert [name.split("-")[0].split(".")[0] for name in names] == [
        "answers", "answers", "inside", "progress", "run", "state",
    ]  # fmt: skip
    shutil.copytree(cut, tmp_path / "copy")
    assert run(replace(request, out=tmp_path / "copy")).result == whole


@pytest.mark.slow
def test_damaged_files_end_in_a_named_error_or_in_the_same_result(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    chance = random.Random(0)
    outcomes: Counter[str] = Counter()
    for number, name in enumerate(files_of(interrupted[1]) * 8):
        out = tmp_path / str(number)
        outcomes[resumed_after_damage(interrupted, out, name, chance)] += 1
    assert outcomes.keys() <= {"recovered", "BadOutput"}
    assert outcomes["BadOutput"] >= 35 and outcomes["recovered"] >= 8, outcomes


def test_a_damaged_state_inside_an_experience_is_done_without(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "run")
    inside = next((tmp_path / "run").rglob("inside*"))
    data = bytearray(inside.read_bytes())
    for place in range(len(data) // 2, len(data), 41):  # all bytes of weights and generators
        data[place] ^= 64
    inside.write_bytes(data)
    assert run(replace(request, out=tmp_path / "run")).result == whole


def test_a_record_that_was_changed_is_not_taken_for_the_runs(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request = replace(interrupted[0], out=tmp_path / "run")
    run(request)
    file = tmp_path / "run" / "record.json"
    record = json.loads(file.read_text())
    record["result"]["last_accuracy"] += 0.01
    file.write_text(json.dumps(record))
    with pytest.raises(BadOutput, match=r"record\.json"):
        run(request)


def test_temporary_files_of_a_killed_process_are_deleted(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, _ = interrupted
    shutil.copytree(cut, tmp_path / "run")
    (tmp_path / "run" / ".progress.json.host-17-0a1b2c3d.part").write_text("half")
    (tmp_path / "run" / ".state.safetensors.4711.part").write_text("of an earlier version")
    run(replace(request, out=tmp_path / "run"))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "predictions.safetensors", "record.json", "run.json", "state.safetensors",
    ]  # fmt: skip


TWO = """
import sys
from pathlib import Path
from clgym.errors import BadOutput
from clgym.gym import folder, run as runs, sessions
from clgym.gym.request import Request

def slowly(*arguments):
    print("begun", flush=True)
    sys.stdin.readline()  # the test says when
    return make(*arguments)

make, sessions.make_session = sessions.make_session, slowly
write = folder.write_atomic

def renamed(path, data):
    # Both are about to claim the fresh folder; the test lets them go on one after the other.
    if path.name == "run.json":
        print("claims", flush=True)
        sys.stdin.readline()
    write(path, data)

folder.write_atomic = renamed
try:
    runs.run(Request("nmc", "split-digits", out=Path(sys.argv[1]), engine="inline"))
    print("finished", flush=True)
except BadOutput as error:
    print("refused", flush=True)
"""


@pytest.mark.slow
def test_of_two_processes_on_one_output_folder_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO, str(tmp_path / "run")]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]

    def heard(number: int) -> str:
        stdout = both[number].stdout
        assert stdout is not None
        return stdout.readline().strip()

    def go_on(number: int) -> None:
        stdin = both[number].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()

    first = [heard(0), heard(1)]
    # The folder is locked before it is claimed: the other does not come as far as that.
    assert sorted(first) == ["claims", "refused"]
    winner = first.index("claims")
    for word in ("begun", "claims", "finished"):  # it claims, runs, and notes its record's hash
        go_on(winner)
        assert heard(winner) == word
    assert [process.wait(60) for process in both] == [0, 0]


def test_names_that_a_terminal_would_obey_are_escapes_in_the_record(tmp_path: Path) -> None:
    names = ["a\x1b[31mred\x07", "\u202eevil", "y" * 300_000, "d"]
    images = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "n.npz", images=images, labels=np.arange(80) % 4, classes=names)
    request = Request(
        "nmc",
        "split-digits",
        scenario_config={"source": f"npz:{tmp_path / 'n.npz'}"},
        engine="inline",
        out=tmp_path / "run",
    )
    record = run(request)
    assert open_run(tmp_path / "run").result == record.result
    assert (tmp_path / "run" / "record.json").stat().st_size < 30_000
    names = record.result.class_order
    assert "a\\u001b[31mred\\u0007" in names and "\\u202eevil" in names and "d" in names
