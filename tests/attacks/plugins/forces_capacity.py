"""Gives its memory more room than it declared, past the property that refuses it."""

from clgym.strategies.replay import Replay


class ForcesCapacity(Replay):
    """Experience replay of everything."""

    def setup(self, info):
        super().setup(info)
        info.memory._capacity = 100_000
