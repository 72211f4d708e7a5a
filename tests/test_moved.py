"""Plugins written for clgym 0.1 find what they import: one module under two names."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from clgym import registry
from clgym._moved import MOVED
from clgym.gym.request import Request
from clgym.gym.run import run
from factories import copy_plugin


@pytest.mark.parametrize(("old", "new"), sorted(MOVED.items()))
def test_both_names_are_one_module(old: str, new: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(new)


def test_an_unknown_name_is_an_ordinary_import_error() -> None:
    for name in ("clgym.adaptation.nothing", "clgym.runners"):
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)


def test_importing_the_package_imports_none_of_them() -> None:
    code = f"import sys, clgym; print([n for n in {sorted(MOVED)} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_old_strategy_runs(tmp_path: Path) -> None:
    file = copy_plugin("old", tmp_path)
    options = {"corruptions": "contrast", "images": 32}
    request = Request(
        "old", "digits-c", scenario_config=options, plugins=(file,), out=tmp_path / "run"
    )
    adaptation = run(request).result.adaptation
    assert adaptation is not None and 0 <= adaptation.mean_error <= 1


def test_an_old_scenario_is_known_for_what_it_is(tmp_path: Path) -> None:
    file = copy_plugin("old_stream", tmp_path)
    assert "old-stream" in registry.entries("scenarios", [file])
    assert "old-stream" not in registry.entries("strategies", [file])
