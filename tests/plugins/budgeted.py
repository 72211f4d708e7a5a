"""Class means with a budget of bytes."""

from dataclasses import replace

from clgym.strategies.nmc import NMC


class Budgeted(NMC):
    @property
    def needs(self):
        return replace(super().needs, memory_bytes=100_000)
