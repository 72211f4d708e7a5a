"""A finished run as a classifier, which predicts the classes of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.data.memory import Memory
from clgym.data.to_device import to_device
from clgym.errors import BadAnswer
from clgym.learner.assembly import make_strategy
from clgym.learner.experiences import info_from
from clgym.learner.state import read_learner
from clgym.messages import StreamFacts
from clgym.results.html_table import html_table
from clgym.results.layout import STATE
from clgym.results.record import Record
from clgym.results.stored import open_run
from clgym.strategy import Batch, Strategy

__all__ = ["Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """The learner of a finished run, as a classifier.

    Attributes:
        strategy: The strategy in its final state.
        record: Record of the run.
        classes: Class names by class index.
        scale: Factor that converts stored pixel values to [0, 1].
    """

    strategy: Strategy
    record: Record
    classes: tuple[str, ...]
    scale: float

    @classmethod
    def load(cls, folder: Path, device: str, plugins: tuple[Path, ...] = ()) -> "Trained":
        """Rebuild the learner from ``record.json`` and ``state.safetensors``.

        Raises:
            BadRecord: There is no valid record.
            BadOutput: There is no valid state.
        """
        record = open_run(folder).record
        state = read_learner(folder / STATE)
        facts: dict[str, Any] = {**state["facts"], "device": device}  # checked by `StreamFacts`
        scale = facts.pop("scale")
        chosen = record.result.strategy
        strategy = make_strategy(chosen.name, chosen.config, [str(p) for p in plugins])
        memory = Memory(strategy.needs.memory)
        strategy.setup(info_from(StreamFacts(**facts), memory))
        memory.load_state_dict(state["memory"], torch.device(device))
        strategy.load_state_dict(state["strategy"])
        return cls(strategy, record, tuple(record.result.class_order), scale)

    def _repr_html_(self) -> str:
        """Show strategy and stream of the run in a notebook."""
        return html_table([self.record.headline])

    def logits(self, images: np.ndarray | Tensor, task: int | None = None) -> Tensor:
        """Return logits, float [n, columns].

        Args:
            images: Images as stored: uint8 [n, H, W, C], or float [n, C, H, W] in [0, 1].
            task: Task id, for a run on a task-incremental stream.
        """
        shape = self.strategy.info.image_shape
        tensor = to_device(torch.as_tensor(images), self.strategy.info.device)
        if tensor.dtype == torch.uint8 and tensor.ndim == 4:
            tensor = tensor.permute(0, 3, 1, 2).float() * self.scale
        if tuple(tensor.shape[1:]) != shape:
            raise BadAnswer(
                expected=f"images of {shape} (channels, height, width)",
                found=str(tuple(tensor.shape[1:])),
                fix="Give uint8 [n, height, width, channels] or float [n, channels, height, width]",
            )
        with torch.no_grad():
            return self.strategy.predict(Batch(tensor, task=task))

    def classify(self, images: np.ndarray | Tensor, task: int | None = None) -> list[str]:
        """Names of the predicted classes of the images."""
        return [self.classes[int(c)] for c in self.logits(images, task).argmax(1)]
