"""Class means that admit something."""

from clgym.strategies.nmc import NMC


class Admits(NMC):
    KNOWN_FAILURES = {"past-data": "sums of [old] rows", "resume": "never tried"}
