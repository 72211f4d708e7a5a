"""Imports a module that lies in no folder of Python or of its own."""

import leaning_here  # noqa: F401

from clgym.strategies.nmc import NMC


class Plain(NMC):
    pass
