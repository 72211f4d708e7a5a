"""Names to plugins, and what is refused."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clgym import registry
from clgym.errors import BadPlugin, DuplicateName, UnknownName
from clgym.registry import finding
from clgym.strategy import Strategy
from factories import PLUGINS, copy_plugin


def test_built_in_strategies_are_found_by_folder() -> None:
    found = registry.entries("strategies")
    assert found["nmc"].summary.startswith("Nearest class mean")
    assert registry.load_class(found["nmc"], Strategy).__name__ == "NMC"


def test_presets_lead_to_their_scenario() -> None:
    assert registry.find("scenarios", "split-digits").name == "class-incremental"
    assert registry.find("scenarios", "split_digits").name == "class-incremental"


def test_unknown_name_shows_near_matches() -> None:
    with pytest.raises(UnknownName, match="'split-digits'"):
        registry.find("scenarios", "split-digit")


def test_a_file_becomes_a_plugin(tmp_path: Path) -> None:
    file = copy_plugin("my_method", tmp_path)
    entry = registry.find("strategies", "my-method", [file])
    assert entry.summary == "A plugin of the user."
    assert registry.load_class(entry, Strategy).__name__ == "Mine"
    assert registry.entries("scenarios", [file]).keys() == registry.entries("scenarios").keys()


def test_a_name_taken_twice_names_both(tmp_path: Path) -> None:
    file = copy_plugin("my_method", tmp_path).rename(tmp_path / "nmc.py")
    with pytest.raises(DuplicateName, match="built-in") as caught:
        registry.entries("strategies", [file])
    assert "nmc.py" in str(caught.value)


def test_a_broken_file_is_reported_and_does_not_stop_the_others(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("def f(:\n")
    found = registry.entries("strategies", [file])
    assert "SyntaxError" in (found["broken"].error or "")
    assert "nmc" in found
    with pytest.raises(BadPlugin, match="SyntaxError"):
        registry.find("strategies", "broken", [file])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('boom')", "boom"),
        ("x = 1", "found none"),
        ((PLUGINS / "second.py").read_text(), "Mine, Other"),
    ],
)
def test_a_file_that_cannot_serve_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "poor.py"
    file.write_text(text)
    with pytest.raises(BadPlugin, match=reason):
        registry.load_class(registry.find("strategies", "poor", [file]), Strategy)


def test_listing_imports_neither_torch_nor_the_plugins() -> None:
    code = (
        "import sys; from clgym import registry; registry.entries('strategies');"
        "registry.entries('scenarios'); registry.find('strategies', 'nmc');"
        "assert 'torch' not in sys.modules and 'clgym.strategies.nmc' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_built_in_files_are_described_by_their_beginning_alike() -> None:
    """Whole files and their beginnings give the same facts; so does one that declares late."""
    from clgym.registry.reading import _facts, _facts_of_head

    root = Path(__file__).parents[1]
    for file in [*root.glob("strategies/*.py"), *root.glob("scenarios/*.py")]:
        assert _facts_of_head(file.read_text()) == _facts(file.read_text()), file.name
    for text in (
        '"""A\nclass of methods."""\nALIASES = ("a",)\n',
        '"""B."""\nclass C: ...\nALIASES = ("b",)\n',
    ):
        assert _facts_of_head(text) == _facts(text)


def test_a_folder_of_several_files_is_one_plugin() -> None:
    """Named by its folder; its class may stand in any of its files."""
    folder = PLUGINS / "many_files"
    entry = registry.find("strategies", "many-files", [folder])
    assert entry.summary.startswith("A plugin of several files")
    assert entry.file_name == "many_files/__init__.py"
    assert registry.load_class(entry, Strategy).__name__ == "Brightness"
    named = registry.find("strategies", "brightness", [Path(f"{folder}:Brightness")])
    assert registry.load_class(named, Strategy).__name__ == "Brightness"
    assert "many-files" not in registry.entries("scenarios", [folder])


def test_files_that_a_folder_imports_stand_in_the_record(tmp_path: Path) -> None:
    import clgym

    record = clgym.run(f"{PLUGINS / 'many_files'}/", "split-digits", out=tmp_path / "run")
    assert record.result.strategy.name == "many-files"
    read = record.environment.read_files
    assert {"method.py", "arithmetic.py"} <= set(read)


@pytest.mark.parametrize("name", ["my_method.py", "my_method.py:Mine"])
def test_a_file_goes_by_its_path(name: str, tmp_path: Path) -> None:
    copy_plugin("my_method", tmp_path)
    given = f"{tmp_path}/{name}"
    found, plugins = registry.named_file("strategies", given, [])
    assert found == ("mine" if ":" in name else "my-method") and plugins == (Path(given),)
    assert registry.named_file("strategies", "nmc", [Path("x.py")]) == ("nmc", (Path("x.py"),))
    with pytest.raises(BadPlugin, match="one of the scenarios"):
        registry.named_file("scenarios", given, [])


def test_a_folder_without_a_first_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlugin, match="__init__.py"):
        registry.entries("strategies", [tmp_path])


def test_a_study_finds_the_folder_of_its_plugin_again(tmp_path: Path) -> None:
    from clgym.protocol.plugin_files import _found, recorded_plugins

    plugin = shutil.copytree(PLUGINS / "many_files", tmp_path / "plugins" / "many_files")
    study = tmp_path / "study"
    study.mkdir()
    given = Path(f"{plugin}:Brightness")
    (facts,) = recorded_plugins(study, [given])["plugins"]  # type: ignore[misc]
    (again,) = [_found(study, facts)]
    assert registry.find("strategies", "brightness", [again]).path.parent.name == "many_files"


def test_facts_that_are_no_literals_are_named(tmp_path: Path) -> None:
    file = tmp_path / "computed.py"
    file.write_text("PRESETS = {name: {} for name in 'ab'}\n")
    with pytest.raises(BadPlugin, match="PRESETS is no literal in line 1"):
        registry.find("scenarios", "computed", [file])


# --- plugins of installed distributions ----------------------------------------------------------

OFFERED = """[clgym.strategies]
good-means = their_means
one_of-them = their_methods:SecondMean
lost = no_such_module.inner
worse = no_such_module
strange = 1, 2
breaks = breaks_when_imported.inner
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages in which a distribution offers strategies, some of them in vain."""
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(OFFERED)
    copy_plugin("my_method", tmp_path).rename(tmp_path / "their_means.py")
    copy_plugin("two", tmp_path).rename(tmp_path / "their_methods.py")
    broken = tmp_path / "breaks_when_imported"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    caches = finding._all_entry_points, finding.plugin_packages
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()


def test_plugins_of_a_distribution_are_found_and_broken_ones_say_why(distribution: Path) -> None:
    known = registry.entries("strategies")
    assert known["good-means"].origin == "theirs" and known["good-means"].error is None
    assert known["good-means"].summary == "A plugin of the user."
    assert known["one-of-them"].attribute == "SecondMean"
    reasons = {name: known[name].error for name in ("lost", "worse", "strange", "breaks")}
    assert reasons == {
        "lost": "ModuleNotFoundError: No module named 'no_such_module'",
        "worse": "no module no_such_module",
        "strange": "the entry point '1, 2' names no module",
        "breaks": "RuntimeError: no licence",
    }
    for name in reasons:
        with pytest.raises(BadPlugin):
            registry.load_class(known[name], Strategy)


def test_the_modules_of_a_distribution_are_those_of_its_entry_points(distribution: Path) -> None:
    assert {"their_means", "their_methods"} <= finding.plugin_packages()


def test_a_class_without_a_file_cannot_be_registered() -> None:
    class Inner(Strategy):
        """Defined in a function, where no other process finds it."""

    with pytest.raises(BadPlugin, match="Inner at the top level of a Python file"):
        registry.register("strategies", Inner)
