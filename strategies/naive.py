"""Plain training on each experience in turn: the lower bound."""

from clgym.avalanche import SGDStrategy


class Naive(SGDStrategy):
    """Nothing against forgetting: SGD on the rows of the present experience."""
