"""A strategy that ends its run by an error of clgym's own, as long as a file exists."""

from pathlib import Path

from clgym.errors import BadOutput
from clgym.strategy import Strategy

UNLUCKY = ""


class Gambles(Strategy):
    def train(self, experience):
        if Path(UNLUCKY).exists():
            fix = "Free some space and repeat the command"
            raise BadOutput(expected="space", found="No space left on device", fix=fix)
        self.columns = experience.columns

    def predict(self, batch):
        return batch.images.flatten(1)[:, : self.columns]
