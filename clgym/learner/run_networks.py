"""Networks of finished runs, as backbones or classifiers.

As a backbone, the network is named ``run@FOLDER``; as a classifier, by the folder. It normalises
its input as in the run.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import Incompatible, MissingData
from clgym.models.loaders import HeadlessNetwork
from clgym.results.layout import STATE, is_run
from clgym.strategy import Batch, Classifier

__all__ = ["RUN", "RunNetwork", "RunNetworks"]

RUN = "run"
"""Prefix of a run's folder in a network's name, before the @."""


class RunNetwork(HeadlessNetwork):
    """Maps images in [0, 1] to features; it has the attributes of timm's networks, too."""

    def __init__(self, network: Classifier, shape: tuple[int, ...], sources: list[str]) -> None:
        """Remove the head of ``network``, which was trained on images of ``shape``."""
        super().__init__()
        self.network, self.num_features = network, network.head.in_features
        self.channels, self.side, self.sources = shape[0], shape[-1], sources
        if _knows_tasks(network):
            network.heads = nn.ModuleDict()
        network.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, width] of images in [0, 1]."""
        return self.network.features(images)


class RunNetworks:
    """Interface to finished runs for `clgym.models.loaders`."""

    def owns(self, folder: Path) -> bool:
        """Whether the folder has the record of a run."""
        return is_run(folder)

    def weights_file(self, folder: Path) -> Path:
        """File with the weights of a finished run.

        Raises:
            MissingData: The folder is not that of a finished run.
        """
        path = folder / STATE
        if not (path.is_file() and self.owns(folder)):
            raise MissingData(
                expected="a finished run: a folder with record.json and state.safetensors",
                found=f"none at {folder}",
                fix="Give --backbone run@FOLDER with the output folder of a run",
            )
        return path

    def network(self, weights: Path) -> RunNetwork:
        """Read the run with the state ``weights``, whose record is in the same folder.

        Raises:
            BadRecord, BadOutput: There is no valid record or state.
            Incompatible: The run's strategy does not predict by a single network.
        """
        # The run's `setup` draws weights that are not used.
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            trained = _trained(weights.parent)
        network: Any = getattr(trained.strategy, "network", None)
        if not isinstance(network, Classifier) or not _answers_alone(network, trained.strategy):
            raise Incompatible(
                expected="a run of a strategy with one network, such as naive or replay",
                found=f"one of {trained.record.result.strategy.name}",
                fix="Give --backbone run@FOLDER with the folder of such a run",
            )
        sources = [source.name for source in trained.record.result.sources]
        return RunNetwork(network, trained.strategy.info.image_shape, sources)

    def classifier(self, folder: Path) -> tuple[Classifier, tuple[str, ...]]:
        """The network of a finished learning run, and its classes by class index.

        Raises:
            BadRecord, BadOutput: There is no valid record or state.
            Incompatible: The run has not trained a single network.
        """
        trained = _trained(folder)
        network = getattr(trained.strategy, "network", None)
        if not isinstance(network, Classifier):
            raise Incompatible(
                expected="a finished run of a strategy that trains one network",
                found=type(trained.strategy).__name__,
                fix="Give --model another folder",
            )
        if _knows_tasks(network):
            raise Incompatible(
                expected="a run whose network distinguishes all classes",
                found="a run that was trained task by task, and predicts one task at a time",
                fix="Give --model a class-incremental run, or train with --heads shared",
            )
        return network, trained.classes


def _trained(folder: Path) -> Any:
    # Imported here for a fast start: the record's schema takes longer than a small run.
    from clgym.learner.trained import Trained

    return Trained.load(folder, "cpu")


def _knows_tasks(network: Classifier) -> bool:
    """Whether the network is from a task-incremental run, with classes by task."""
    return hasattr(network, "own")


def _answers_alone(network: Classifier, strategy: Any) -> bool:
    """Whether the strategy's prediction for an image equals that of its network."""
    shape = strategy.info.image_shape
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    task = 0 if strategy.info.setting == "task-incremental" else None
    with torch.no_grad():
        answer = strategy.predict(Batch(image, task=task))
        given = (image, task) if _knows_tasks(network) else (image,)
        logits = network.eval()(*given)[:, : answer.shape[1]]
    return logits.shape == answer.shape and torch.allclose(logits, answer)
