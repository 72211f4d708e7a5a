"""The package as it is installed: what the wheel holds, and that it works from anywhere."""

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import clgym

ROOT = Path(__file__).resolve().parent.parent
BUILT = ("clgym", "strategies", "scenarios")
PAPERS = ROOT / "leaderboards" / "papers"


def run(*words: str | Path, cwd: Path) -> str:
    # PYTHONPATH may name this checkout, which would then stand in for the wheel.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that no build folder appears in the checkout."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel (extra `test`)")
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in BUILT:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PAPERS, tree / PAPERS.relative_to(ROOT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, tree)
    run(sys.executable, "-m", "pip", *build, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel, which borrows the other packages from this one.

    A plain path line does not run the .pth files behind it, so an editable install of this
    checkout is not borrowed.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(
        run(python, "-c", "import sysconfig as s; print(s.get_path('purelib'))", cwd=folder).strip()
    )
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("--python", python, "install", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", *install, cwd=folder)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_plugins_inside_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clgym"}
    for folder in ("strategies", "scenarios"):
        expected = {f"clgym/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*.py")}
        assert expected == {n for n in names if n.startswith(f"clgym/{folder}/")}
    papers = {f"clgym/papers_data/{path.name}" for path in PAPERS.glob("*.toml")}
    assert "clgym/papers_data/nmc.toml" in papers
    assert papers == {n for n in names if n.startswith("clgym/papers_data/")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "clgym/py.typed" in names


@pytest.mark.slow
def test_the_wheel_works_from_any_folder(installed, tmp_path):
    clgym_command = installed / "bin" / "clgym"
    here = json.loads(run(clgym_command, "list", "--json", cwd=Path("/")))
    assert {"nmc", "replay"} <= {item["name"] for item in here["strategies"]}
    assert "class-incremental" in {item["name"] for item in here["scenarios"]}
    # A folder of the same name, as a user may well have, must not stand in for ours.
    for name in ("strategies", "scenarios"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong folder')\n")
        (tmp_path / name / "mine.py").write_text('"""Not ours."""\n')
    assert json.loads(run(clgym_command, "list", "--json", cwd=tmp_path)) == here
    python = installed / "bin" / "python"
    assert json.loads(run(python, "-m", "clgym", "list", "--json", cwd=tmp_path)) == here


@pytest.mark.slow
def test_the_wheel_runs_in_a_folder_with_strategies_of_its_own(installed, tmp_path):
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    command = (installed / "bin" / "clgym", "run", "nmc", "split-digits", "--json")
    record = json.loads(run(*command, cwd=tmp_path))
    assert len(record["result"]["accuracy_matrix"]) == 5
    where = "import clgym, clgym.strategies.nmc as m; print(clgym.__file__, m.__file__)"
    files = run(installed / "bin" / "python", "-c", where, cwd=tmp_path).split()
    assert all(file.startswith(str(installed.resolve())) for file in files)


def test_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    assert f"version: {clgym.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_readme_has_two_marked_one_line_commands():
    text = (ROOT / "README.md").read_text()
    found = dict(re.findall(r"<!-- command: (\w+) -->\n```sh\n(.+)\n```\n", text))
    assert found == {"demo": "make demo", "test": "make test"}
    # The plain lines shown beneath are those of the Makefile.
    makefile = (ROOT / "Makefile").read_text().replace("$(PYTHON)", "python3")
    rules = dict(re.findall(r"^(\w+):\n((?:\t.+\n)+)", makefile, re.MULTILINE))
    blocks = re.findall(r"It is short for\n\n```sh\n((?:.+\n)+?)```", text)
    for name, block in zip(("demo", "test"), blocks, strict=True):
        assert rules[name].replace("$(VENV)", ".venv").replace("\t", "") == block


def test_every_dependency_has_a_lower_bound_which_the_oldest_tier_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    printed = run(sys.executable, ROOT / ".ci" / "lower_bounds.py", cwd=ROOT).split()
    oldest = [Requirement(line) for line in printed]
    wanted = [Requirement(line) for line in project["dependencies"]]
    assert [r.name for r in oldest] == [r.name for r in wanted]
    for exact, range_ in zip(oldest, wanted, strict=True):
        version = str(exact.specifier).removeprefix("==")
        assert version in range_.specifier
        assert {s.version for s in range_.specifier} == {version}


def test_constraints_give_an_exact_version_of_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in lines if not line.startswith("#"))
    }
    for line in [*project["dependencies"], *extras["test"], *extras["dev"]]:
        wanted = Requirement(line)
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, line


def test_every_import_of_the_package_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {re.split(r"[<>=!~ \[]", line)[0].lower().replace("_", "-") for line in lines}
    owners = importlib.metadata.packages_distributions()
    pattern = re.compile(r"^\s*(?:from|import) ([a-zA-Z_]\w*)", re.MULTILINE)
    for folder in BUILT:
        for path in (ROOT / folder).rglob("*.py"):
            for name in set(pattern.findall(path.read_text())):
                if name in sys.stdlib_module_names or name == "clgym" or name not in owners:
                    continue
                # An extra will do: its package is imported where it is used.
                assert {owner.lower().replace("_", "-") for owner in owners[name]} & declared, (
                    path.name,
                    name,
                )
