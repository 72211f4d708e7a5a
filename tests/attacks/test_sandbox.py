"""What a plugin tries in a worker: refused by the sandbox, and possible without it."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clgym.api import make_scenario
from clgym.data.sources import load_source
from clgym.data.store import cache_dir
from clgym.engines import bubblewrap, landlock, seccomp
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.withheld_order import order_key
from clgym.learner.state import read_state
from factories import copy_plugin, load_plugin

with_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")
BEYOND_REACH = (
    *("PermissionError", "FileNotFoundError", "ProcessLookupError", "ConnectionRefusedError"),
    *("OSError", "CalledProcessError", "ModuleNotFoundError"),
)

Outcome = Callable[..., str]
ATTACKS = load_plugin("attacks").ATTACKS


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("other")
    run(Request("nmc", "split-digits", out=out, threads=1))
    return out


Attempt = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory, other: Path) -> Iterator[Attempt]:
    """Tells how each attack went in a run with a kind of sandbox."""
    place = tmp_path_factory.mktemp("attacks")
    data, state = place / "data", place / "state"
    data.mkdir()
    (data / "labels.npy").write_text("labels")
    fingerprint = load_source("digits").fingerprint
    tcp, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0clgym-{os.getpid()}")
    abstract.listen()
    found: dict[str, dict[str, str]] = {}

    def once(mode: str) -> dict[str, str]:
        facts: dict[str, object] = {
            "CACHE": cache_dir() / "sources",
            "FINGERPRINT": fingerprint,
            "DATA": data,
            "OTHER": other,
            "OUT": place / mode,
            "STATE": state,
            "TEMPORARY": place,
            "GYM": os.getpid(),
            "ADDRESS": id(place),
            "PORT": tcp.getsockname()[1],
            "ABSTRACT": abstract.getsockname()[1:].decode(),
        }
        if mode not in found:
            found[mode] = attack(place / mode, facts, mode)
        return found[mode]

    with pytest.MonkeyPatch.context() as patch, tcp, abstract:
        patch.setenv("CLGYM_STATE", str(state))
        patch.setenv("CLGYM_DATA", str(data))
        order_key("a run")  # makes the secret
        yield once


def attack(out: Path, facts: dict[str, object], mode: str) -> dict[str, str]:
    """Try everything in one run; by attack ``GOT`` or the name of the error."""
    plugin = copy_plugin("attacks", out.parent / f"plugin-{mode}", **facts)
    request = Request("attacks", "split-digits", out=out, threads=1, plugins=(plugin,))
    run(replace(request, sandbox=mode), lambda event: None)  # type: ignore[arg-type]
    state: Any = read_state(out / "state.safetensors")
    return state["strategy"]["outcomes"]


@pytest.mark.parametrize("name", ATTACKS)
@with_landlock
def test_refused_inside_and_possible_outside(name: str, attempt: Attempt) -> None:
    needs = {"TCP": 4, "signal": 6, "abstract": 6}
    if landlock.abi() < max((v for word, v in needs.items() if word in name), default=1):
        pytest.skip("this kernel's Landlock does not cover it")
    if name in ("a UDP socket", "memory of the kernel") and not seccomp.available():
        pytest.skip("calls of this machine are not filtered")
    assert attempt("auto")[name] in ("PermissionError", "OSError", "CalledProcessError")
    assert attempt("none")[name] == "GOT"


@pytest.mark.slow
@pytest.mark.skipif(not bubblewrap.works(), reason="no Bubblewrap that works on this system")
@pytest.mark.parametrize("name", ATTACKS)
def test_refused_inside_bubblewrap(name: str, attempt: Attempt) -> None:
    # Its namespaces have a loopback, shared memory and a first process of their own; links lead
    # nowhere in it.
    own = ("a TCP server", "a UDP socket", "a socket in its folder", "memory of the kernel")
    own += (
        "a signal to the fork server",
        "a link out of its folder",
        "the machine's shared memory",
    )
    outcome = attempt("bubblewrap")[name]
    assert outcome == "GOT" if name in own else outcome in BEYOND_REACH


@with_landlock
def test_a_plugin_is_shut_in_before_it_is_imported(tmp_path: Path, state: Path) -> None:
    order_key("a run")
    plugin = copy_plugin("early", tmp_path, SECRET=state / "secret")
    request = Request("early", "split-digits", out=tmp_path / "run", plugins=(plugin,))
    with pytest.raises(Exception, match="PermissionError"):
        run(request)
    assert not (tmp_path / "run").exists()


@with_landlock
def test_programs_gain_no_rights_and_files_and_processes_are_limited(outcome: Outcome) -> None:
    import resource

    found = outcome("limits")
    free = str(resource.getrlimit(resource.RLIMIT_AS)[1])
    words = found.partition("(")[2].rstrip(")").split(", ")
    assert words[0] == "True" and words[3].startswith(free)
    assert 0 < int(words[1]) <= 4096 and 0 < int(words[2]) <= 32768


@with_landlock
def test_temporary_files_go_to_a_folder_that_ends_with_the_run(outcome: Outcome) -> None:
    found = outcome("temporary_file")
    name = Path(found.removeprefix("GOT ").partition(" ")[0])
    assert "clgym-" in name.parent.name and not name.parent.exists()


@with_landlock
@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_learner_reads_a_file_of_a_source(outcome: Outcome, split: str, testing: bool) -> None:
    assert outcome(split, testing=testing).startswith("REFUSED PermissionError")


def test_a_test_shows_its_own_images_and_no_others(outcome: Outcome) -> None:
    """Those of the first two classes, after the first experience of two classes."""
    labels = load_source("digits").test.labels
    wanted = np.flatnonzero(labels < 2).tolist()
    assert outcome("shown test", testing=True).startswith(f"GOT {wanted}")
    assert outcome("shown train", testing=True).startswith("REFUSED FileNotFoundError")
    assert outcome("shown test", testing=False).startswith("REFUSED")


def test_a_test_on_training_rows_shows_no_row_that_is_learned(outcome: Outcome) -> None:
    stream = make_scenario("split-digits", validation=0.1).on_validation()
    options = {"score_on": "valid", "scenario_config": {"validation": 0.1}}
    found = outcome("shown train", testing=True, **options)
    rows = set(json.loads(found.partition("GOT ")[2].partition("]")[0] + "]"))
    assert rows == set(stream.steps[0].test.tolist())
    assert not rows & {row for step in stream.steps for row in step.train.tolist()}


@with_landlock
def test_a_record_says_what_was_enforced(tmp_path: Path) -> None:
    request = Request("nmc", "split-digits", threads=1)
    shut = run(replace(request, out=tmp_path / "shut", sandbox="landlock")).environment.sandbox
    assert shut is not None and shut.startswith(f"landlock {landlock.abi()}: files")
    free = run(replace(request, out=tmp_path / "free", sandbox="none"))
    assert free.environment.sandbox == "none"
    inline = run(replace(request, out=tmp_path / "inline", engine="inline"))
    assert inline.environment.sandbox == "none"
    assert shut and free.result == run(replace(request, out=tmp_path / "again")).result
