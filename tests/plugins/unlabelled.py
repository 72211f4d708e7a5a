"""Random projections as features, and a report of what a learner without labels can reach."""

import json
from pathlib import Path

import torch
from torch import Tensor

from clgym.errors import OutOfReach
from clgym.strategy import Batch, Experience, Needs, Strategy, StreamInfo

REPORT = ""
WHOLE_BATCH = False
WIDTH = 16
DECLARED = {}


class Unlabelled(Strategy):
    @property
    def needs(self) -> Needs:
        return Needs(settings=("pretraining",), **DECLARED)

    def setup(self, info: StreamInfo) -> None:
        super().setup(info)
        self.weights = torch.randn(info.image_shape[1] * info.image_shape[2], WIDTH)
        self.mean = torch.zeros(())

    def train(self, experience: Experience) -> None:
        batch = next(iter(experience.batches(8)))
        self.mean = batch.images.mean()
        self.report(
            labels=reached(lambda: experience.labels),
            batch_labels=reached(lambda: batch.labels),
            part_labels=reached(lambda: experience.part(torch.arange(3)).labels),
            classes=list(experience.classes),
            columns=experience.columns,
            tasks=sorted(set(batch.tasks.tolist())),
            total=self.info.total_columns,
            setting=self.info.setting,
        )

    def represent(self, batch: Batch) -> Tensor:
        features = batch.images.flatten(1) @ self.weights
        return features - features.mean(0) if WHOLE_BATCH else features

    def report(self, **facts: object) -> None:
        if REPORT:
            with Path(REPORT).open("a") as file:
                file.write(json.dumps(facts) + "\n")


def reached(read: object) -> str:
    try:
        read()  # type: ignore[operator]
    except OutOfReach:
        return "OutOfReach"
    return "read"
