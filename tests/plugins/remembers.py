"""A strategy that is to forget and tries to keep what it was given; reports what it could read."""

import json
from pathlib import Path

import torch

from clgym.errors import ClgymError
from clgym.strategy import Batch, Experience, ForgetRequest, Needs, Strategy

REPORT = ""
STORES_AGAIN = False
RETAINED = False
KEPT: list = []


def tell(**facts) -> None:
    with Path(REPORT).open("a") as file:
        file.write(json.dumps(facts) + "\n")


class Remembers(Strategy):
    """Answers at random, and keeps references to all it can reach."""

    @property
    def needs(self) -> Needs:
        return Needs(memory=60, retained_data=RETAINED)

    def setup(self, info):
        super().setup(info)
        self.columns = 0

    def train(self, experience: Experience) -> None:
        self.columns = experience.columns
        KEPT.append(experience)
        KEPT.append(self.info.memory)
        for batch in experience.batches(32):
            self.info.memory.add(
                experience.generator("r", step=experience.step),
                pixels=batch.pixels,
                labels=batch.labels,
            )

    def predict(self, batch: Batch) -> torch.Tensor:
        return batch.images.flatten(1)[:, : self.columns] * 1.0

    def forget(self, request: ForgetRequest) -> None:
        memory = self.info.memory
        own = [part.pixels.flatten(1).tolist() for part in request.forgotten]
        old = [kept for kept in KEPT if not isinstance(kept, Experience) and kept is not memory]
        closed = 0
        for kept in KEPT:
            if isinstance(kept, (Experience, ForgetRequest)):
                try:
                    (kept.forgotten[0] if isinstance(kept, ForgetRequest) else kept).pixels  # noqa: B018
                except ClgymError:
                    closed += 1
        try:
            retained = [part.pixels.flatten(1).tolist() for part in request.retained]
            labels = [part.labels.tolist() for part in request.retained]
            widths = [part.columns for part in request.retained]
        except ClgymError as error:
            retained, labels, widths = type(error).__name__, [], []
        tell(
            classes=list(request.classes),
            forgotten=own,
            forgotten_labels=[part.labels.tolist() for part in request.forgotten],
            memory_labels=memory["labels"].tolist(),
            memory_pixels=memory["pixels"].flatten(1).tolist(),
            old_samples=sum(len(kept) for kept in old if not isinstance(kept, ForgetRequest)),
            closed=closed,
            held=sum(isinstance(kept, (Experience, ForgetRequest)) for kept in KEPT),
            retained=retained,
            retained_labels=labels,
            widths=widths,
        )
        KEPT.append(request)
        if STORES_AGAIN:
            part = request.forgotten[0]
            memory.put(torch.arange(1), pixels=part.pixels[:1], labels=part.labels[:1])
