"""Writes down all that it is told."""

from pathlib import Path

from clgym.errors import OutOfReach
from clgym.strategies.nmc import NMC

REPORT = "report"


def told(thing):
    names = [name for name in dir(thing) if not name.startswith("_")]
    values = [value for name in names if (value := reached(thing, name)) is not None]
    return [v for v in values if isinstance(v, (str, int, float, tuple, list, dict))]


def reached(thing, name):
    try:
        return getattr(thing, name, None)
    except OutOfReach:
        return None


class Nosy(NMC):
    def setup(self, info):
        self.write(info)
        super().setup(info)

    def train(self, experience):
        self.write(experience)
        super().train(experience)

    def predict(self, batch):
        self.write(batch)
        return super().predict(batch)

    def write(self, thing):
        with Path(REPORT).open("a") as file:
            print(type(thing).__name__, told(thing), file=file)
