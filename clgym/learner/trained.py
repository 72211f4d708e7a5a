"""A finished run as a classifier: load it, give it images, read classes."""

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
        strategy: It, in the state it ended in.
        record: Record of the run.
        classes: Class names by column of the logits.
        scale: What turns stored pixel values into [0, 1].
    """

    strategy: Strategy
    record: Record
    classes: tuple[str, ...]
    scale: float

    @classmethod
    def load(cls, folder: Path, device: str, plugins: tuple[Path, ...] = ()) -> "Trained":
        """Rebuild the learner from ``record.json`` and ``state.safetensors``.

        Raises:
            BadRecord: no valid record there.
            BadOutput: no valid state there.
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
        """Show what was trained, and on what, in a notebook."""
        return html_table([self.record.headline])

    def logits(self, images: np.ndarray | Tensor, task: int | None = None) -> Tensor:
        """Logits, float [n, columns].

        Args:
            images: Images as stored: uint8 [n, H, W, C], or float [n, C, H, W] in [0, 1].
            task: Its id, for a run on a task-incremental stream.
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
