"""Reads a file when it is imported."""

from pathlib import Path

SECRET = __file__
Path(SECRET).read_bytes()

from clgym.strategies.nmc import NMC  # noqa: E402


class Early(NMC):
    pass
