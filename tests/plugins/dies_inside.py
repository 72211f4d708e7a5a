"""A method that dies inside a stage of the second experience while a flag file is there."""

import importlib
import os
import signal
from pathlib import Path

NAME = "bic"
STAGE = 1
FLAG = "flag"

_module = importlib.import_module(f"clgym.strategies.{NAME}")


class DiesInside(getattr(_module, NAME.title())):
    def after_step(self, batch, logits):
        here = (self.experience.index, self.stage_index)
        # Not at the first step: the optimizer has momentum, and a state was saved.
        if here == (1, STAGE) and self.position.step == 1 and Path(FLAG).exists():
            os.kill(os.getpid(), signal.SIGKILL)


DiesInside.__module__ = __name__
