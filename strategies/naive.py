"""Plain training on each experience in turn: the lower bound."""

from clgym.avalanche import SGDStrategy

SPACE = {
    "lr": [0.01, 0.03, 0.1, 0.3],
    "epochs": [1, 2, 4],
    "batch_size": [10, 32],
    "momentum": [0.0, 0.9],
    "weight_decay": [0.0, 0.0001],
}


class Naive(SGDStrategy):
    """Nothing against forgetting: SGD on the rows of the present experience."""
