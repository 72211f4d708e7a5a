"""Nearest class mean that hands back something else."""

import sys

import torch

from clgym.strategies.nmc import NMC

HOOK = "costs"


class Odd(NMC):
    def costs(self):
        return {"flops": torch.ones(())} if HOOK == "costs" else super().costs()

    def train(self, experience):
        if HOOK == "report":
            experience.report(loss=torch.ones(2))
        if HOOK == "exit":
            sys.exit(3)
        super().train(experience)
