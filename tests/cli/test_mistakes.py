"""Every mistake: one line with a named error in three parts, exit code 2, nothing written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from clgym import files
from clgym.cli._parser import BadUsage
from clgym.errors import ClgymError

PROBLEMS = {cls.__name__: cls.problem for cls in (*ClgymError.__subclasses__(), BadUsage)}
NMC = ("run", "nmc", "split-digits")
NAIVE = ("run", "naive", "split-digits")


def one_line(err: str, name: str, *parts: str) -> None:
    """Assert that ``err`` is one error line in three parts that says ``parts``."""
    assert err.count("\n") == 1, err
    assert err.startswith(f"error: {PROBLEMS[name]}: expected "), err
    assert "; found " in err
    for part in parts:
        assert part in err, err


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("words", "name", "parts"),
    [
        (("rnu",), "BadUsage", ["'rnu'", "'run'"]),
        (("run",), "BadUsage", ["STRATEGY SCENARIO"]),
        (("run", "nmc"), "BadUsage", ["STRATEGY SCENARIO"]),
        (("run", "replya", "split-digits"), "UnknownName", ["'replya'", "'replay'"]),
        (("run", "nmc", "split-digit"), "UnknownName", ["'split-digit'", "'split-digits'"]),
        (("show", "cifar1000"), "UnknownName", ["'cifar1000'", "'cifar100'"]),
        (("fetch", "cifar1000"), "UnknownName", ["'cifar1000'", "'cifar100'"]),
        ((*NMC, "--source", "digts"), "UnknownName", ["'digts'", "'digits'"]),
        ((*NMC, "--btach-size", "3"), "UnknownName", ["--btach-size", "'--batch-size'"]),
        ((*NMC, "--btach-size=3"), "UnknownName", ["found --btach-size. Did"]),
        ((*NMC, "odd"), "UnknownName", ["'odd'", "scenarios"]),
        ((*NMC, "--seed", "1", "--seeds", "0..2"), "BadUsage", ["not allowed with"]),
        ((*NMC, "--seeds", "4..2"), "BadUsage", ["4..2"]),
        ((*NMC, "--seeds", "1,1"), "BadUsage", ["1,1"]),
        ((*NMC, "--seed", "-1"), "BadConfig", ["-1"]),
        ((*NMC, "--seed", "1.5"), "BadUsage", ["--seed to be a whole number", "found '1.5'"]),
        (
            (*NMC, "--engine", "inlinex"),
            "BadUsage",
            ["--engine to be one of process, inline", "'inline'"],
        ),
        (
            ("run", "nmc", "digits"),
            "UnknownName",
            ["the name of one of the scenarios", "'digits-c', 'task-digits' or"],
        ),
        ((*NMC, "--threads", "-1"), "BadConfig", ["thread"]),
        ((*NMC, "--device", "cuda:77"), "Incompatible", ["cuda:77"]),
        ((*NMC, "--increments", "3"), "BadStream", ["10 classes", "3+3+3+1"]),
        ((*NMC, "--increments", "5", "4"), "BadStream", ["10 classes", "5+4"]),
        ((*NMC, "--increments", "5,x"), "BadConfig", ["5,x"]),
        ((*NMC, "--validation", "0.9"), "BadConfig", ["at most 0.5", "0.9"]),
        ((*NAIVE, "--lr", "-1"), "BadConfig", ["naive.lr", "above 0", "-1"]),
        ((*NAIVE, "--lr", "nan"), "BadConfig", ["nan"]),
        ((*NAIVE, "--epochs", "1.5"), "BadConfig", ["whole number", "1.5"]),
        ((*NAIVE, "--augment", "blur"), "BadConfig", ["crop-flip", "blur"]),
        ((*NAIVE, "--augment", "no\nsuch"), "BadConfig", ["crop-flip"]),
        (("run", "nmc", "split-mnist"), "MissingData", ["CLGYM_DATA", "clgym fetch mnist"]),
        ((*NMC, "--source", "npz:absent.npz"), "MissingData", ["absent.npz"]),
        ((*NMC, "--plugin", "absent.py"), "BadPlugin", ["absent.py"]),
        ((*NMC, "--config", "absent.toml"), "BadConfig", ["absent.toml"]),
        ((*NMC, "--out", "/proc/none/x"), "BadOutput", ["/proc/none/x"]),
        (("compare", "absent", "absent"), "BadRecord", ["absent"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line(cli, here, words, name, parts):
    code, out, err = cli(*words)
    one_line("\n".join(_errors(err)) + "\n", name, *parts)
    assert (code, out) == (2, "")
    assert tree(here) == set()


def _errors(err: str) -> list[str]:
    """Without the lines that tell how a run goes."""
    lines = [line for line in err.splitlines() if line]
    return [line for line in lines if not line.startswith(("nmc on", "naive on", "options:"))]


def test_a_corrupt_npz_is_a_one_line_error(cli, here, tmp_path):
    path = tmp_path / "broken.npz"
    np.savez(path, images=np.zeros((8, 4, 4, 1), np.uint8), labels=np.arange(8) % 2)
    path.write_bytes(path.read_bytes()[:100])
    code, out, err = cli(*NMC, "--source", f"npz:{path}")
    one_line(err, "BadSource", "broken.npz")
    assert (code, out, tree(here)) == (2, "", set())


def test_a_truncated_download_is_a_one_line_error(cli, here, tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = np.array([2051, 10, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(5 * 28 * 28))
        labels = np.array([2049, 10], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels + bytes(range(10)))
    code, out, err = cli("run", "nmc", "split-mnist", "--data-root", tmp_path / "data")
    one_line(err, "BadSource", "idx3-ubyte")
    assert (code, out, tree(here)) == (2, "", set())


def test_a_strategy_that_needs_task_ids_is_refused_in_one_line(cli, here, plugin):
    words = ("run", "guess", "split-digits", "--kind", "odd", "--plugin", plugin)
    code, out, err = cli(*words)
    one_line(err, "Incompatible", "task-incremental", "guess", "split-digits")
    assert (code, out, tree(here)) == (2, "", set())


def test_a_full_disk_is_a_one_line_error(cli, here, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    code, out, err = cli(*NMC, "--out", here / "run")
    one_line(_errors(err)[-1] + "\n", "BadOutput", "space", "No space left")
    assert (code, out) == (2, "")
    assert not [path for path in tree(here) if path.is_file()]


def test_an_output_path_that_is_a_file_is_a_one_line_error(cli, here):
    Path("taken").write_text("mine")
    for out in ("taken", "taken/inside"):
        code, _, err = cli(*NMC, "--out", out)
        one_line(_errors(err)[-1] + "\n", "BadOutput", "taken")
        assert code == 2
    assert tree(here) == {here / "taken"}
    assert Path("taken").read_text() == "mine"


def test_an_output_folder_of_another_run_is_a_one_line_error(cli, here):
    assert cli(*NMC, "--out", here / "run")[0] == 0
    before = {path: path.read_bytes() for path in tree(here) if path.is_file()}
    code, _, err = cli(*NMC, "--out", here / "run", "--batch-size", "7")
    one_line(_errors(err)[-1] + "\n", "BadOutput", "run", "other options")
    assert code == 2
    assert {path: path.read_bytes() for path in tree(here) if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "text", "error", "part"),
    [
        ("a.toml", "lr = 1", "BadConfig", "outside a table"),
        ("a.toml", "[strategie]\nlr = 1", "UnknownName", "'strategy'"),
        ("a.toml", "[strategy]\nbatch_sizes = 1", "UnknownName", "'batch_size'"),
        ("a.toml", "[strategy]\nbatch_size = 0", "BadConfig", "at least 1"),
        ("a.toml", "[strategy", "BadConfig", "a.toml"),
        ("a.json", "[1]", "BadConfig", "outside a table"),
        ("a.json", "{", "BadConfig", "a.json"),
    ],
)
def test_an_invalid_config_file_is_a_one_line_error(cli, here, name, text, error, part):
    Path(name).write_text(text)
    code, out, err = cli(*NMC, "--config", name)
    one_line(err, error, part)
    assert (code, out, tree(here)) == (2, "", {here / name})
