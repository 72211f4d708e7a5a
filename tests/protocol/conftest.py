"""One sealed and evaluated study that the tests copy; a strategy file of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.engines.pool import PoolSpec
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from factories import copy_plugin


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class means of pixels to a power: one option that matters, one that makes it fail."""
    return copy_plugin("power", tmp_path_factory.mktemp("plugin"))


def _asked(**changed) -> StudySpec:
    return StudySpec("power", find_pair("digits-t2"), **{"trials": 3, "seeds": (0, 1), **changed})


@pytest.fixture(scope="session")
def asked() -> Callable[..., StudySpec]:
    """A study of 3 trials and 2 seeds; keywords change it."""
    return _asked


@pytest.fixture(autouse=True)
def _nothing_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inline study closes sources for its process for good; here until the test's end."""
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> Path:
    """A study of 3 trials and 2 seeds, sealed and evaluated; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "study"
    tune(_asked(), ExecutionOptions(out, PoolSpec(), plugins=(plugin,)))
    evaluate(out, PoolSpec(), plugins=(plugin,))
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Callable[[], Path]:
    """Fresh copies of it."""
    made = []

    def make() -> Path:
        made.append(tmp_path / f"copy-{len(made)}" / "study")
        shutil.copytree(finished, made[-1])
        return made[-1]

    return make
