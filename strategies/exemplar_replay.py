"""Exemplar replay: training on new images and herded exemplars together, cross-entropy alone.

The "Replay" of Cha & Cho's protocol (arXiv 2403.09066) and of PyCIL: offline training on all images
of the new classes and the exemplars of the old ones in one shuffled set, no teacher. The strategy
`replay` is another method: a reservoir whose samples join each batch. Defaults are PyCIL's.
"""

from clgym.avalanche import ExemplarConfig, ExemplarStrategy

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
}


class ExemplarReplay(ExemplarStrategy[ExemplarConfig]):
    """The methods' common ground as it is."""
