"""Two means and a stream."""

from clgym.scenarios.class_incremental import ClassIncremental
from clgym.strategies import nmc
from clgym.strategies.nmc import NMC


class FirstMean(NMC):
    """The plain one."""


class SecondMean(nmc.NMC):
    """Another."""


class OwnStream(ClassIncremental):
    """A stream."""
