"""Means of frozen features, as a probe."""

from clgym.strategies.simplecil import SimpleCIL

CONFIG = {}


class Probe(SimpleCIL):
    CHECK_CONFIG = CONFIG
