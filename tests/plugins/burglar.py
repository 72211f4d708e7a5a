"""Looks for the evaluation side while it is tuned, and tells how that went by its error."""

import os
from pathlib import Path

import numpy as np

from clgym.data import withheld
from clgym.data.sources import load_source
from clgym.strategies.nmc import NMC

SPACE = {"batch_size": [128]}
LOOK = "variable"


def variable():
    """Take back the variable of the environment, then use clgym's own loader."""
    os.environ.pop("CLGYM_WITHHELD", None)
    return len(load_source("digits").test.labels)


def rules():
    """Let the loader believe that nothing is closed."""
    withheld.rules = lambda: []
    return len(load_source("digits").test.labels)


def mapped():
    """Count the images that are no zeros in all files that are mapped into this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = {line.split()[-1] for line in lines if line.endswith(".npy")}
    return int(sum(np.load(name).reshape(-1, 64).any(axis=1).sum() for name in names))


class Burglar(NMC):
    def train(self, experience):
        super().train(experience)
        if LOOK != "mapped":
            self.look()

    def predict(self, batch):
        self.look()

    def look(self):
        try:
            found = {"variable": variable, "rules": rules, "mapped": mapped}[LOOK]()
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__}: {error}") from None
        raise RuntimeError(f"GOT {found}")
