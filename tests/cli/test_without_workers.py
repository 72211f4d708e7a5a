"""Questions, mistakes and finished runs are answered without a worker once the answers are kept."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from clgym.engines import Channel
from clgym.gym import description, learners
from factories import copy_plugin

NMC = ("run", "nmc", "split-digits")
QUESTIONS = [
    (*NMC, "--help"),
    ("run", "ema", "split-digits", "--base", "nmc", "--help"),
    ("show", "nmc"),
    (*NMC, "--btach-size", "3"),
    ("run", "source", "split-digits"),
    (*NMC, "--dry-run"),
    (*NMC, "--dry-run", "--json", "--increments", "5", "--seed", "3"),
    pytest.param(("run", "avalanche:EWC", "split-digits", "--help"), marks=pytest.mark.slow),
]


def refuse(*arguments: Any, **more: Any) -> NoReturn:
    raise AssertionError("a worker was to be started")


def close(patch: pytest.MonkeyPatch) -> None:
    for module in (description, learners):
        patch.setattr(module, "open_channel", refuse)


@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_the_second_time_no_worker_is_started(cli, here, monkeypatch, words) -> None:
    first = cli(*words)
    close(monkeypatch)
    assert cli(*words) == first


def test_another_mistake_needs_no_worker_either(cli, here, monkeypatch) -> None:
    cli(*NMC, "--help")
    close(monkeypatch)
    code, _, err = cli(*NMC, "--imagesize", "3", "--seed", "7", "--out", "there")
    assert code == 2
    assert "found --imagesize. Did you mean '--image-size'" in err


def test_missing_data_are_missed_before_anybody_is_asked(cli, here, monkeypatch) -> None:
    close(monkeypatch)
    code, _, err = cli("run", "derpp", "split-mnist")
    assert code == 2
    assert "expected mnist in the data root" in err


def test_words_that_may_choose_other_data_are_not_judged_early(cli, here, monkeypatch) -> None:
    asked: list[str] = []

    def stop(engine: str, target: str, *rest: Any, **more: Any) -> Channel:
        asked.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(description, "open_channel", stop)
    cli("run", "derpp", "split-mnist", "--increments", "5")
    assert len(asked) == 1


def test_a_finished_run_is_shown_without_a_worker(cli, here, monkeypatch) -> None:
    shown = (*NMC, "--out", "run", "--json")
    code, record, _ = cli(*shown)
    assert code == 0
    close(monkeypatch)
    assert cli(*shown)[:2] == (0, record)
    assert cli(*NMC, "--out", "run")[0] == 0
    assert cli("show", "run")[0] == 0


def test_a_changed_plugin_is_asked_again(cli, here, tmp_path) -> None:
    plugin = copy_plugin("guess", tmp_path)
    words = ("run", f"{plugin}:Guess", "split-digits", "--help")
    assert "--share" in cli(*words)[1]
    plugin.write_text(plugin.read_text().replace("share", "part"))
    shown = cli(*words)[1]
    assert "--part" in shown and "--share" not in shown


PROBE = """
import sys
started = []
def note(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"):
        started.append(event)
sys.addaudithook(note)
from clgym.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "torchvision", "avalanche", "timm", "sklearn", "matplotlib"} & set(sys.modules)
print(f"code={code} heavy={sorted(heavy)} started={started}")
"""


def test_a_process_of_its_own_loads_and_starts_nothing_heavy(cli, here: Path) -> None:
    assert cli(*NMC, "--out", "run", "--json")[0] == 0
    line = [sys.executable, "-c", PROBE, *NMC, "--out", "run"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "code=0 heavy=[] started=[]", done.stderr
    assert json.loads((here / "run" / "record.json").read_text())
