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

TUNED = '''"""Class means of pixels to a power: one option that matters, one that makes it fail."""
import hashlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from clgym.config import Range
from clgym.strategy import Config, Strategy

SPACE = {"power": [0.5, 1.0, 2.0, 4.0], "batch_size": [64, 128, 256]}
STABILITY = {"power": 4.0}


@dataclass(frozen=True)
class PowerConfig(Config):
    """Options."""

    power: Annotated[float, Range(0)] = 1.0
    """Exponent."""
    fails: float = -1.0
    """Power at which it raises."""
    lr: float = 0.1
    """Nothing."""
    batch_size: int = 64
    """Images a batch."""


class Power(Strategy):
    Config = PowerConfig

    def setup(self, info):
        super().setup(info)
        self.means = torch.zeros(0, 0)

    def features(self, images):
        return images.flatten(1) ** self.config.power

    def train(self, experience):
        if self.config.power == self.config.fails:
            raise ValueError("this setting fails")
        flag = Path("/dev/shm", hashlib.sha256(__file__.encode()).hexdigest())
        if experience.index == 1 and flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        found = {}
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            for feature, label in zip(self.features(batch.images), batch.labels.tolist()):
                found.setdefault(label, []).append(feature)
        means = [torch.stack(found[c]).mean(0) for c in experience.classes]
        self.means = torch.stack([*self.means, *means])

    def predict(self, batch):
        return -torch.cdist(self.features(batch.images), self.means)

    def state_dict(self):
        return {"means": self.means}

    def load_state_dict(self, state):
        self.means = state["means"]
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "power.py"
    path.write_text(TUNED)
    return path


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
