"""Looks around when it is set up, and tells what it found by the error that it ends with."""

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from clgym.strategies.nmc import NMC

LOOK = "limits"
TRAIN = ""  # files of the source's images
TEST = ""


def limits():
    """Whether programs can gain no rights; most open files, processes and bytes of memory."""
    status = Path("/proc/self/status").read_text()
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_AS)
    return "NoNewPrivs:\t1" in status, *(resource.getrlimit(kind)[1] for kind in kinds)


def temporary_file():
    """The path of a temporary file that it leaves."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x")
    return file.name


def shown(split):
    """The row numbers of the images in the file of a split that the learner above knows."""
    frame = sys._getframe()
    while "self" not in frame.f_locals or not hasattr(frame.f_locals["self"], "_rows"):
        frame = frame.f_back
    images = np.load(getattr(frame.f_locals["self"]._rows._sources[0], split))
    return images.any((1, 2, 3)).nonzero()[0].tolist()


LOOKS = {
    "limits": limits,
    "temporary_file": temporary_file,
    "train": lambda: np.load(TRAIN).shape,
    "test": lambda: np.load(TEST).shape,
    "shown train": lambda: shown("train"),
    "shown test": lambda: shown("test"),
}
TESTING = False  # whether it looks when it is tested, or when it is set up to train


class Attacker(NMC):
    def setup(self, info):
        super().setup(info)
        if not TESTING:
            self.look()

    def predict(self, batch):
        self.look()

    def look(self):
        try:
            found = LOOKS[LOOK]()
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__} {error}") from None
        raise RuntimeError(f"GOT {found}")
