"""Which sandbox a worker enters, and what Bubblewrap is told to mount."""

from dataclasses import replace
from pathlib import Path

import pytest

from clgym.engines import bubblewrap, landlock
from clgym.engines.rules import Rules
from clgym.engines.sandbox import Confinement, Sandbox, confine
from clgym.errors import BadAnswer, Incompatible
from clgym.gym.request import Request
from clgym.gym.run import run
from factories import copy_plugin


class Entered(Exception):
    """A sandbox was about to be entered."""


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch):
    """Sets what a system has; to enter one of them raises its name."""

    def has(abi: int, bwrap: bool) -> None:
        def entered(name: str):
            def enter(*arguments: object) -> None:
                raise Entered(name)

            return enter

        monkeypatch.setattr("clgym.engines.sandbox._limit", lambda: None)
        monkeypatch.setattr("clgym.engines.sandbox.gain_no_privileges", lambda: None)
        monkeypatch.setattr(landlock, "abi", lambda: abi)
        monkeypatch.setattr(landlock, "enforce", entered("landlock"))
        monkeypatch.setattr(bubblewrap, "works", lambda: bwrap)
        monkeypatch.setattr(bubblewrap, "enter", entered("bubblewrap"))

    return has


@pytest.mark.parametrize(
    ("abi", "bwrap", "asked", "entered"),
    [
        (1, True, "auto", "landlock"),
        (0, True, "auto", "bubblewrap"),
        (7, True, "bubblewrap", "bubblewrap"),
        (7, False, "landlock", "landlock"),
    ],
)
def test_landlock_comes_first_then_bubblewrap(
    system, abi: int, bwrap: bool, asked: Sandbox, entered: str
) -> None:
    system(abi, bwrap)
    with pytest.raises(Entered, match=entered):
        confine(Confinement(asked), [])


def test_without_either_auto_enforces_nothing_and_says_so(system) -> None:
    system(0, False)
    assert confine(Confinement("auto"), []) == "none"


@pytest.mark.parametrize("asked", ["landlock", "bubblewrap"])
def test_a_sandbox_that_is_named_and_missing_is_refused(system, asked: Sandbox) -> None:
    system(0, False)
    with pytest.raises(Incompatible, match=f"--sandbox {asked}"):
        confine(Confinement(asked), [])


def test_links_lead_to_what_is_mounted(tmp_path: Path) -> None:
    inner = tmp_path / "real" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    (inner / "within").symlink_to("nowhere")
    rules = Rules(read=[tmp_path / "real", inner, Path("/proc/self")], write=[Path("/dev/shm")])
    named = [tmp_path / "second" / "inner", inner / "within"]
    words = list(bubblewrap._mounts(rules, named))
    triples = {tuple(words[i : i + 3]) for i in range(0, len(words), 3)}
    link, real = str(tmp_path / "link"), str(tmp_path / "real")
    assert triples == {
        ("--symlink", link, str(tmp_path / "second")),
        ("--symlink", "real", link),
        ("--ro-bind-try", real, real),
    }


def test_a_link_in_the_place_of_a_state_is_refused(tmp_path: Path) -> None:
    out, secret = tmp_path / "run", tmp_path / "secret"
    secret.write_text("secret")
    plugin = copy_plugin("links", tmp_path / "plugin", SECRET=secret)
    request = Request("links", "split-digits", out=out, threads=1, plugins=(plugin,))
    with pytest.raises(BadAnswer, match="a link to another file"):
        run(replace(request, sandbox="none"), lambda event: None)
    assert not (out / "state.safetensors").exists() and secret.read_text() == "secret"


@pytest.mark.slow
@pytest.mark.skipif(not bubblewrap.works(), reason="no Bubblewrap that works on this system")
def test_results_in_bubblewrap_are_those_outside(tmp_path: Path) -> None:
    request = Request("naive", "split-digits", strategy_config={"epochs": 1}, threads=1)
    shut = run(replace(request, out=tmp_path / "shut", sandbox="bubblewrap"))
    free = run(replace(request, out=tmp_path / "free", sandbox="none"))
    assert shut.environment.sandbox == bubblewrap._ENFORCED
    assert shut.result == free.result
