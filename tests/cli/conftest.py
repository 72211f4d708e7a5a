from pathlib import Path

import pytest

from clgym.cli import main
from clgym.data.sources import load_source

PLUGIN = '''"""Answers that need a task id, and options of every kind."""
from dataclasses import dataclass
from typing import Annotated, Literal
import torch
from clgym.config import Range
from clgym.strategy import Config, Needs, Strategy


@dataclass(frozen=True)
class Options(Config):
    seed: int = 3
    """A name that the run has too."""
    fast: bool = False
    """A switch."""
    widths: Annotated[tuple[int, ...], Range(1)] = (8, 4)
    """A list."""
    kind: Literal["plain", "odd"] = "plain"
    """A choice."""
    share: Annotated[float, Range(0, 1)] | None = None
    """Fewer than 100 % of the rows."""


class Guess(Strategy):
    Config = Options

    @property
    def needs(self):
        return Needs(task_ids=self.config.kind == "odd")

    def train(self, experience):
        self.columns = experience.columns

    def predict(self, batch):
        return torch.zeros(len(batch), self.columns)

    def state_dict(self):
        return {"columns": self.columns}

    def load_state_dict(self, state):
        self.columns = state["columns"]
'''


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Digits, decoded once: what a run writes besides is then its own doing."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_CACHE", str(folder))
        load_source("digits")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, shared_cache):
    """An empty working directory without a data root."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CLGYM_CACHE", str(shared_cache))
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return folder


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "guess.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def cli(capsys):
    """Run a command line: (exit code, standard output, standard error)."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call
