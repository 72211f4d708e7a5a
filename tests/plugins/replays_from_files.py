"""Remembers where images of its first experience were, and reads them in its last one."""

import sys
from pathlib import Path

import numpy as np
import torch

from clgym.strategy import Strategy

HELD = {}
MAP = False
CHMOD = 0


def request_above():
    """The gym's message and the images' files, in the frames above `train`."""
    frame = sys._getframe()
    while frame is not None:
        if "request" in frame.f_locals and hasattr(frame.f_locals["request"], "counts"):
            return frame.f_locals["request"], frame.f_locals["self"]
        frame = frame.f_back
    raise LookupError("no message")


def tried(read) -> str:
    """Whether images were read."""
    try:
        return "GOT" if len(read()) else "nothing"
    except Exception as error:
        return type(error).__name__


class ReplaysFromFiles(Strategy):
    """Tries every way to the images of an earlier experience that it can think of."""

    def setup(self, info) -> None:
        self.info, self.seen, self.outcomes = info, 0, {}
        self.path, self.rows = "", None

    def train(self, experience) -> None:
        self.seen = experience.columns
        request, learner = request_above()
        source = learner._rows._sources[0]
        if experience.index == 0:
            path = Path(request.due.images[0])
            self.path, HELD["file"] = str(path), path.open("rb")
            HELD["map"] = np.load(path, mmap_mode="r") if MAP else None
            if CHMOD:
                path.chmod(CHMOD)
                path.parent.chmod(CHMOD)
            self.rows = getattr(request, "rows", None)
            return
        self.outcomes = {
            "the file of all training images": tried(lambda: np.load(source.train)),
            "the file of an earlier experience": tried(lambda: np.load(self.path)),
            "a file that it kept open": tried(lambda: HELD["file"].read()),
            "row numbers": tried(lambda: self.rows),
            "its folder": tried(lambda: [*Path(self.path).parent.iterdir()][1:]),
        }

    def state_dict(self):
        if HELD.get("map") is not None:
            HELD["map"].sum()
        return super().state_dict()

    def predict(self, batch) -> torch.Tensor:
        return torch.zeros(len(batch), self.seen)
