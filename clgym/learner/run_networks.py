"""The network of a finished run, its head taken off, for others to build on.

``run@FOLDER`` names it wherever a backbone is named. It normalises its input as the run did.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import Incompatible, MissingData
from clgym.models.networks import Classifier

__all__ = ["RUN", "RunNetwork", "state_file"]

RUN = "run"
"""What stands before the @ of a run's folder."""


class RunNetwork(nn.Module):
    """Images in [0, 1] to features; the facts that timm's networks carry are here too.

    Attributes:
        channels: Of the images that the run was trained on.
        side: Of those images, in pixels.
        sources: Names of the image sets that it has seen.
    """

    def __init__(self, network: Classifier, shape: tuple[int, ...], sources: list[str]) -> None:
        """Take the head off ``network``, trained on images of ``shape``."""
        super().__init__()
        self.network, self.num_features = network, network.head.in_features
        self.channels, self.side, self.sources = shape[0], shape[-1], sources
        network.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, width] of images in [0, 1]."""
        return self.network.features(images)

    @classmethod
    def load(cls, state: Path) -> "RunNetwork":
        """Read the run whose state lies at ``state``, its record beside it.

        Raises:
            BadRecord, BadOutput: no valid record or state there.
            Incompatible: the run does not answer by one network alone.
        """
        from clgym.trained import Trained  # the learner's side, which imports this floor

        with torch.random.fork_rng(devices=[]):  # its `setup` draws weights, for nothing
            trained = Trained.load(state.parent, "cpu")
        network: Any = getattr(trained.strategy, "network", None)
        if not isinstance(network, Classifier) or not _answers_alone(network, trained.strategy):
            raise Incompatible(
                expected="a run of a strategy that answers by one network, such as naive or replay",
                found=f"one of {trained.record.result.strategy.name}",
                fix="Give --backbone run@FOLDER with the folder of such a run",
            )
        sources = [source.name for source in trained.record.result.sources]
        return cls(network, trained.strategy.info.image_shape, sources)


def _answers_alone(network: Classifier, strategy: Any) -> bool:
    """Whether the strategy's answer to some image is what its network says."""
    from clgym.strategy import Batch

    shape = strategy.info.image_shape
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    task = 0 if strategy.info.setting == "task-incremental" else None
    with torch.no_grad():
        answer = strategy.predict(Batch(image, task=task))
        logits = network.eval()(image)[:, : answer.shape[1]]
    return logits.shape == answer.shape and torch.allclose(logits, answer)


def state_file(folder: Path) -> Path:
    """Where a finished run keeps its weights.

    Raises:
        MissingData: it is no finished run.
    """
    path = folder / "state.safetensors"
    if not (path.is_file() and (folder / "record.json").is_file()):
        raise MissingData(
            expected="a finished run: a folder with record.json and state.safetensors",
            found=f"none at {folder}",
            fix="Give --backbone run@FOLDER with the folder that --out named",
        )
    return path
