"""One sealed and evaluated study that the tests copy; a strategy file of their own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.engines.pool import PoolSpec
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import Where
from clgym.protocol.study import Asked, tune

TUNED = '''"""Class means of pixels to a power: one option that matters, one that fails, one that hangs."""
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from clgym.config import Range
from clgym.strategies.nmc import NMC, NMCConfig

SPACE = {"power": [0.5, 1.0, 2.0, 4.0], "batch_size": [64, 128, 256]}
STABILITY = {"power": 4.0}


@dataclass(frozen=True)
class PowerConfig(NMCConfig):
    """Options."""

    power: Annotated[float, Range(0)] = 1.0
    """Exponent."""
    fails: float = -1.0
    """Power at which it raises."""
    lr: float = 0.1
    """Nothing."""


class Power(NMC):
    Config = PowerConfig

    def features(self, images):
        return images.flatten(1).clamp(0, 1) ** self.config.power

    def train(self, experience):
        if self.config.power == self.config.fails:
            raise ValueError("this setting fails")
        flag = Path(os.environ.get("CLGYM_TEST_KILL", "/nowhere"))
        if experience.index == 1 and flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        super().train(experience)
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "power.py"
    path.write_text(TUNED)
    return path


def asked(**changed) -> Asked:
    return Asked("power", find_pair("digits-t2"), **{"trials": 3, "seeds": (0, 1), **changed})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, plugin: Path) -> Path:
    """A study of 3 trials and 2 seeds, sealed and evaluated; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "study"
    tune(asked(), Where(out, PoolSpec(), plugins=(plugin,)))
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
