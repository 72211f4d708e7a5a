"""Needs task ids."""

from clgym.strategies.nmc import NMC
from clgym.strategy import Needs


class WantsTaskIds(NMC):
    @property
    def needs(self):
        return Needs(task_ids=True)
