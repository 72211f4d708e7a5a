"""Naive, under another name."""

from clgym.strategies.naive import Naive


class Renamed(Naive):
    """The same."""
