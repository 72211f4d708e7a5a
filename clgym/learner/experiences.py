"""Experiences as strategies see them, made from the gym's messages."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from clgym.data.experience import OnBatch
from clgym.data.to_device import to_device
from clgym.learner.logged import NumberLog
from clgym.learner.reporting import Reporting
from clgym.learner.rows import RowImages, stored_features
from clgym.messages import ExperienceRows, StreamFacts, Train
from clgym.strategy import Experience, Memory, StreamInfo

__all__ = ["ExperienceMaker", "info_from"]


def info_from(facts: StreamFacts, memory: Memory, images: np.ndarray | None = None) -> StreamInfo:
    """Facts that a strategy may know in advance, from the gym's plain data.

    Args:
        facts: Facts about the stream.
        memory: The strategy's memory.
        images: Images of another source, uint8 [n, H, W, C]; None if there are none.
    """
    device = torch.device(facts.device)
    given = None if images is None else to_device(torch.as_tensor(images), device)
    return StreamInfo(
        image_shape=facts.image_shape,
        setting=facts.setting,
        device=device,
        seed=facts.seed,
        mean=facts.mean,
        std=facts.std,
        total_columns=facts.total_columns,
        total_experiences=facts.total_experiences,
        single_pass=facts.single_pass,
        memory=memory,
        images=None if given is None else given.permute(0, 3, 1, 2),
    )


@dataclass(frozen=True)
class ExperienceMaker:
    """Makes the experiences of one stream from messages."""

    info: StreamInfo
    rows: RowImages
    scale: float
    reporting: Reporting

    def make(
        self,
        request: Train | ExperienceRows,
        log: NumberLog,
        safe_point: Callable[[], None],
        place: int | None = None,
        on_batch: OnBatch = lambda images, looks: None,
    ) -> Experience:
        """Rows of a message.

        Args:
            request: The message.
            log: Log of the strategy's numbers.
            safe_point: Called at points where the state may be saved.
            place: Number under which progress is reported.
            on_batch: Called with every batch that the strategy reads.
        """
        pixels = self.rows.of_experience(request)
        labels = None
        if request.labels is not None:
            labels = to_device(torch.as_tensor(request.labels), pixels.device)
        return Experience(
            request.index,
            pixels,
            labels,
            classes=request.classes,
            columns=request.num_seen_classes,
            seed=self.info.seed,
            scale=self.scale,
            task=request.task,
            task_columns=request.task_columns,
            single_pass=self.info.single_pass,
            report=self.reporting.progress(place),
            log=self.reporting.logger(request.index if place is None else place, log),
            safe_point=safe_point,
            on_batch=on_batch,
            features=stored_features(request.due.features, pixels.device),
            class_names=request.class_names,
        )
