"""Plugins written for clgym 0.1 find what they import: one module under two names."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from clgym import registry
from clgym._moved import MOVED, RENAMED_MODULES, RENAMED_NAMES
from clgym.errors import BadPlugin, ClgymError, Renamed
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.strategy import Strategy
from factories import copy_plugin


@pytest.mark.parametrize(("old", "new"), sorted(MOVED.items()))
def test_both_names_are_one_module(old: str, new: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(new)


def resolve(name: str) -> object:
    """The module of that name, or what stands under it in its module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED_MODULES.items()))
def test_a_renamed_module_is_refused_with_its_new_name(old: str, new: str) -> None:
    resolve(new)
    with pytest.raises(Renamed, match=f"{old} is called {new} since 0.2"):
        importlib.import_module(old)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [(module, *pair) for module, names in RENAMED_NAMES.items() for pair in names.items()],
)
def test_a_renamed_class_or_function_is_refused_with_its_new_name(
    module: str, old: str, new: str
) -> None:
    resolve(new)
    with pytest.raises(Renamed, match=f"{module}.{old} is called {new} since 0.2") as caught:
        exec(f"from {module} import {old}")
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, ClgymError)


def test_a_method_that_nothing_calls_any_more_is_refused_where_its_base_had_it() -> None:
    from clgym.adaptation import AdaptStrategy

    body = {"parts": lambda self: {}}
    with pytest.raises(Renamed, match=r"Old\.parts.*All attributes are the state"):
        type("Old", (AdaptStrategy,), body)
    type("Unrelated", (Strategy,), body)


def test_a_name_that_never_was_is_an_ordinary_error() -> None:
    from clgym.protocol import study

    assert not hasattr(study, "AskedFor")
    with pytest.raises(ImportError, match="cannot import name 'AskedFor'"):
        exec("from clgym.protocol.study import AskedFor")


def test_a_plugin_with_an_old_import_is_refused_with_the_new_name(tmp_path: Path) -> None:
    entry = registry.find("strategies", "stale", [copy_plugin("stale", tmp_path)])
    with pytest.raises(BadPlugin) as caught:
        registry.load_class(entry, Strategy)
    assert str(caught.value) == (
        "expected a name of clgym 0.2; found clgym.data.cards.Card, in stale.py. "
        "clgym.data.cards.Card is called clgym.data.cards.DatasetInfo since 0.2: change the import."
    )


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
