"""Naive that fails at the end of the third experience while a file is there."""

from pathlib import Path

from clgym.strategies.naive import Naive

FLAG = "flag"


class Fails(Naive):
    """Naive, with an end."""

    def train(self, experience):
        super().train(experience)
        if experience.index == 2 and Path(FLAG).exists():
            raise RuntimeError("the end")
