"""Two strategies in one file, which is therefore named with the class that is meant."""

from clgym.strategies.nmc import NMC

SPACE = {"batch_size": [64, 128, 256]}


class Power(NMC):
    pass


class Other(Power):
    pass
