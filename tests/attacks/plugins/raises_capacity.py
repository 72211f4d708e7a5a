"""Gives its memory more room than it declared."""

from clgym.strategies.replay import Replay


class RaisesCapacity(Replay):
    """Experience replay of everything."""

    def setup(self, info):
        super().setup(info)
        info.memory.capacity = 100_000
