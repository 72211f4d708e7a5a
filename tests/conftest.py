"""Learners without the gym, on a small stream of separable random images.

torch is imported where a fixture is used: many tests do without.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from factories import stream_info

if TYPE_CHECKING:
    from clgym.strategy import Experience, Strategy

SHAPE = (1, 6, 6)

# How long an example takes depends on what else the machine does: no reason to fail.
settings.register_profile("clgym", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clgym")

# The workers of pytest share the cores, and so a learner gets one thread; set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The installation's secret and registry of studies are those of this test session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_STATE", str(tmp_path_factory.mktemp("state")))
        # The data root of a test without CLGYM_DATA: no data of whoever runs the tests.
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("working")


@pytest.fixture
def working_folder(_shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory. One path for all tests: a new one takes a new fork server."""
    monkeypatch.chdir(_shared_folder)
    yield _shared_folder
    for path in _shared_folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _experiences(
    setting: str = "class-incremental", rows: int = 48, steps: int = 3, **options: Any
) -> Iterator["Experience"]:
    """Two new classes a step; in domain-incremental streams the same four throughout."""
    import torch

    from clgym.strategy import Experience

    generator = torch.Generator().manual_seed(7)
    for index in range(steps):
        classes = (0, 1, 2, 3) if setting == "domain-incremental" else (2 * index, 2 * index + 1)
        labels = torch.tensor(classes).repeat(rows)[:rows]
        noise = torch.randint(0, 120, (rows, *SHAPE), generator=generator)
        pixels = (noise + 20 * labels[:, None, None, None]).to(torch.uint8)
        yield Experience(
            index,
            pixels,
            labels,
            classes=classes,
            columns=max(classes) + 1,
            seed=0,
            scale=1 / 255,
            task=index if setting == "task-incremental" else None,
            **options,
        )


def _learner(cls: type["Strategy"], setting: str = "class-incremental", **config: Any) -> Any:
    """A strategy, set up as the gym does it."""
    import torch

    from clgym.config import build
    from clgym.strategy import Memory

    strategy = cls(build(cls.Config, config, "test"))
    needs, total = strategy.needs, 4 if setting == "domain-incremental" else 6
    known = needs.total_classes or setting == "domain-incremental"
    memory = Memory(needs.memory)
    scale = {"mean": (0.4,), "std": (0.2,)}
    torch.manual_seed(0)
    total = total if known else None
    strategy.setup(stream_info(SHAPE, setting, total_columns=total, memory=memory, **scale))
    return strategy


@pytest.fixture
def experiences() -> Callable[..., Iterator["Experience"]]:
    """Makes the experiences of a stream."""
    return _experiences


@pytest.fixture
def learner() -> Callable[..., Any]:
    """Makes a strategy that is ready for its first experience."""
    return _learner


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of sums is the same everywhere."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line: (exit code, standard output, standard error)."""
    from clgym.cli import main

    def call(*words: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call
