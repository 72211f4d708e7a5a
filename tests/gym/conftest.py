"""A strategy that looks for what the gym withholds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from factories import copy_plugin


@dataclass(frozen=True)
class Snooping:
    """The strategy's file, and where it writes."""

    plugin: Path
    report: Path

    def found(self) -> dict[str, Any]:
        """What it found, on its one look."""
        return json.loads(self.report.read_text())


@pytest.fixture
def snoop(tmp_path: Path) -> Snooping:
    report = tmp_path / "report.json"
    return Snooping(copy_plugin("snoop_adaptation", tmp_path, REPORT=report), report)
