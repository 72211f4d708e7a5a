"""Classes arrive in groups, and the task id of every batch is known, in training and at test."""

from .class_incremental import ClassIncremental

PRESETS = {
    "task-digits": {"source": "digits", "increments": [2], "memory_size": 100},
    "task-mnist": {"source": "mnist", "increments": [2], "memory_size": 200},
    "task-cifar10": {
        "source": "cifar10",
        "increments": [2],
        "network": "resnet18",
        "memory_size": 500,
    },
    "task-cifar100": {
        "source": "cifar100",
        "increments": [10],
        "network": "resnet18",
        "memory_size": 2000,
    },
}


class TaskIncremental(ClassIncremental):
    """The groups of a class-incremental stream, with their ids told."""

    setting = "task-incremental"
