"""A plugin of the user."""

from clgym.strategy import Strategy


class Mine(Strategy):
    pass
