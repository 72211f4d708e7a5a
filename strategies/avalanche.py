"""Avalanche's own strategies: avalanche:EWC, avalanche:LwF, avalanche:GDumb, ...

Built from Avalanche's classes and run by its plugins; options are those of the class's constructor
besides those of SGD. The last two rows of `VARIANTS` cannot run here: asking for one says why.
"""

from clgym.avalanche.adapter import adapt

# fmt: off
VARIANTS = (
    "AGEM", "BiC", "CWRStar", "CoPE", "Cumulative", "DER", "ER_ACE", "EWC",
    "FromScratchTraining", "GDumb", "GEM", "GSS_greedy", "ICaRL", "JointTraining", "LFL",
    "LwF", "MAS", "MER", "MIR", "Naive", "Replay", "SCR", "StreamingLDA",
    "SynapticIntelligence",
    "AR1", "ER_AML", "ExpertGateStrategy", "FeatureReplay", "GenerativeReplay", "LearningToPrompt",
    "PNNStrategy", "PackNet",
)
# fmt: on

SPACE = {
    "EWC": {
        "lr": [0.01, 0.03, 0.1, 0.3],
        "epochs": [1, 2, 4],
        "batch_size": [10, 32],
        "momentum": [0.0, 0.9],
        "weight_decay": [0.0, 0.0001],
        "ewc_lambda": [1.0, 10.0, 100.0, 1000.0],
    },
    "LwF": {
        "lr": [0.01, 0.03, 0.1, 0.3],
        "epochs": [1, 2, 4],
        "batch_size": [10, 32],
        "momentum": [0.0, 0.9],
        "weight_decay": [0.0, 0.0001],
        "alpha": [0.5, 1.0, 3.0],
        "temperature": [1.0, 2.0],
    },
}


def variant(argument: str) -> type:
    """The strategy for the class of that name in `avalanche.training`."""
    return adapt(argument)
