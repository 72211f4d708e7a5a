"""Keeps the experience and reads it when it is over."""

from clgym.strategies.nmc import NMC

LOOKS = {
    "pixels": lambda past: past.pixels,
    "labels": lambda past: past.labels,
    "batches": lambda past: next(past.batches(4)),
}
LOOK = "pixels"


class Keeper(NMC):
    def train(self, experience):
        if experience.index == 1:
            LOOKS[LOOK](self.kept)
        self.kept = experience
        super().train(experience)
