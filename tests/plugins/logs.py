"""Logs numbers of its own, and dies at one step while a flag file is there."""

import os
import signal
from pathlib import Path

from clgym.avalanche import SGDStrategy

FLAG = "flag"


class Logs(SGDStrategy):
    def after_step(self, batch, logits):
        self.experience.log(labels=int(batch.labels.sum()))
        epoch, step = self.experience.epoch, self.experience.step
        if (self.experience.index, epoch, step) == (1, 1, 3) and Path(FLAG).exists():
            os.kill(os.getpid(), signal.SIGKILL)

    def train(self, experience):
        super().train(experience)
        half = experience.part((experience.labels > experience.classes[0]).nonzero().flatten())
        for _ in half.batches(16):
            self.log(half=len(half))
        experience.report(own=experience.index)
