"""Nearest class mean that dies in the third experience while a flag file is there."""

import os
import signal
from pathlib import Path

from clgym.strategies.nmc import NMC

FLAG = "flag"


class Dies(NMC):
    def train(self, experience):
        super().train(experience)
        if experience.index == 2 and Path(FLAG).exists():
            os.kill(os.getpid(), signal.SIGKILL)
