"""Bytecode beside a plugin's source is not what runs, since the plugin's hash does not cover it."""

import importlib.util
import marshal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import BadPlugin
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.registry import from_source, import_from_source
from factories import copy_plugin

HIDDEN = "raise RuntimeError('hidden code')"
UNCHECKED = (0b01).to_bytes(4, "little")
"""Flags of bytecode that Python never compares with its source (PEP 552)."""


def hide(file: Path, text: str = HIDDEN) -> Path:
    """Put other code into the bytecode of a file, so that Python does not look at the source."""
    code = compile(text, str(file), "exec")
    head = importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(file.read_bytes())
    folder = file.parent / "__pycache__"
    folder.mkdir(exist_ok=True)
    place = folder / f"{file.stem}.{sys.implementation.cache_tag}.pyc"
    place.write_bytes(head + marshal.dumps(code))
    return place


def leaning(folder: Path) -> Path:
    plugin = copy_plugin("leaning", folder)
    (folder / "leaning_helper.py").write_text("SWAY = 0\n")
    (folder / "table.txt").write_text("0")
    return plugin


@pytest.mark.parametrize("engine", ["process", pytest.param("inline", marks=pytest.mark.slow)])
def test_hidden_code_of_a_plugin_and_its_helper_does_not_run(tmp_path: Path, engine) -> None:
    plugin = leaning(tmp_path / "plugin")
    asked = Request("leaning", "split-digits", plugins=(plugin,), engine=engine)
    hide(plugin)
    if engine == "process":  # a helper of an inline run may have been imported before
        hide(plugin.with_name("leaning_helper.py"))
    record = run(asked)
    assert record.result.last_accuracy > 0.5


def test_bytecode_without_a_source_is_refused(tmp_path: Path) -> None:
    plugin = leaning(tmp_path / "plugin")
    helper = plugin.with_name("leaning_helper.py")
    hide(helper, "SWAY = 0").rename(helper.with_suffix(".pyc"))
    helper.unlink()
    with pytest.raises(BadPlugin, match="bytecode without its source"):
        run(Request("leaning", "split-digits", plugins=(plugin,)))


def test_a_distribution_of_plugins_is_compiled_and_a_library_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("their_plugins", "their_library"):
        (tmp_path / package).mkdir()
        for name in ("__init__.py", "method.py"):
            (tmp_path / package / name).write_text("HIDDEN = False\n")
            hide(tmp_path / package / name, "HIDDEN = True")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(from_source, "library_roots", lambda: (f"{tmp_path}/",))
    monkeypatch.setattr(from_source, "plugin_packages", lambda: frozenset({"their_plugins"}))
    monkeypatch.syspath_prepend(str(tmp_path))
    import_from_source()
    found = {}
    for package in ("their_plugins", "their_library"):
        module = importlib.import_module(f"{package}.method")
        found[package] = (sys.modules[package].HIDDEN, module.HIDDEN)
        monkeypatch.delitem(sys.modules, f"{package}.method")
        monkeypatch.delitem(sys.modules, package)
    assert found == {"their_plugins": (False, False), "their_library": (True, True)}


def test_a_built_in_strategy_is_compiled_and_the_core_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wheel the strategies are inside the package, among the libraries."""
    package = tmp_path / "clgym"
    for folder in (package, package / "strategies"):
        folder.mkdir()
        (folder / "part.py").write_text("HIDDEN = False\n")
        hide(folder / "part.py", "HIDDEN = True")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(from_source, "library_roots", lambda: (f"{tmp_path}/",))
    monkeypatch.setattr(from_source, "PACKAGE", package)
    import_from_source()
    assert not loaded(package / "strategies" / "part.py").HIDDEN
    assert loaded(package / "part.py").HIDDEN


def loaded(file: Path) -> Any:
    """A module by its path, as a plugin may load a helper; no finder is asked."""
    spec = importlib.util.spec_from_file_location("loaded", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("way", ["{place}/helper.py", "{libraries}/../{name}/helper.py"])
def test_a_helper_that_is_loaded_by_its_path_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    place, libraries = tmp_path / "plugin", tmp_path / "libraries"
    for folder in (place, libraries):
        folder.mkdir()
    (place / "helper.py").write_text("HIDDEN = False\n")
    hide(place / "helper.py", "HIDDEN = True")
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(from_source, "library_roots", lambda: (f"{libraries}/",))
    import_from_source()
    import_from_source()  # as where clgym is imported anew in one process
    file = way.format(place=place, libraries=libraries, name=place.name)
    assert not loaded(Path(file)).HIDDEN


def test_a_touched_helper_is_the_same_helper(tmp_path: Path) -> None:
    """Where bytecode could be written, none is: a run of the same files reads the same files."""
    plugin = leaning(tmp_path / "plugin")
    found = []
    for number in range(2):
        request = Request("leaning", "split-digits", plugins=(plugin,), sandbox="none")
        record = run(replace(request, out=tmp_path / f"run-{number}"))
        found.append(record.environment.read_files)
        plugin.with_name("leaning_helper.py").touch()
    assert found[0] == found[1]
    assert set(found[0]) == {"leaning_helper.py", "table.txt"}
