"""Adapts nothing: it declares no classifier to start from."""

from clgym.strategy import Needs, Strategy


class Bare(Strategy):
    """Has no network."""

    needs = Needs(settings=("adaptation",))
