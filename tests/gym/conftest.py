"""A strategy that looks for what the gym withholds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SNOOP = '''"""Looks for what the gym withholds and writes down what it finds."""
import gc, json, sys
from pathlib import Path
import numpy as np
import torch
from clgym.strategies.source import Source

FOUND = Path("REPORT")
GYM = ("clgym.gym.run", "clgym.gym.learning", "clgym.gym.adaptation", "clgym.gym.scoring")


def integers():
    """Every whole-number array and list within reach: of the collector, and of all frames."""
    tracked = gc.get_objects()
    for frame in sys._current_frames().values():
        while frame is not None:
            tracked.append(frame.f_locals)
            frame = frame.f_back
    seen = {id(thing): thing for holder in tracked for thing in gc.get_referents(holder)}
    for thing in seen.values():
        if issubclass(type(thing), torch.Tensor):
            thing = thing.detach().cpu().numpy()
        if issubclass(type(thing), np.ndarray) and thing.ndim == 1 and thing.dtype.kind in "iu":
            yield thing.tolist()
        elif type(thing) in (list, tuple) and thing and all(type(v) is int for v in thing):
            yield list(thing)


class Snoop(Source):
    batches = 0

    def adapt(self, batch):
        self.batches += 1
        if self.batches == 5:  # one look, when a first segment has been answered
            found = {
                "labels": batch.labels is not None,
                "source": self.info.source_data is not None,
                "arrays": [a for a in integers() if 20 < len(a) < 3000],
                "gym": [m for m in GYM if m in sys.modules],
                "text": [t for t in sys.argv if "noise" in t],
            }
            FOUND.write_text(json.dumps(found))
        return super().adapt(batch)
'''


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
    made = Snooping(tmp_path / "snoop.py", tmp_path / "report.json")
    made.plugin.write_text(SNOOP.replace("REPORT", str(made.report)))
    return made
