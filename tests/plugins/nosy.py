"""Writes down all that it is told."""

from pathlib import Path

from clgym.strategies.nmc import NMC

REPORT = "report"


def told(thing):
    names = [name for name in dir(thing) if not name.startswith("_")]
    values = [getattr(thing, name, None) for name in names]
    return [v for v in values if isinstance(v, (str, int, float, tuple, list, dict))]


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
