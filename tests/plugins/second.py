"""Two strategies in one file."""

from clgym.strategy import Strategy


class Mine(Strategy):
    pass


class Other(Strategy):
    pass
