"""Registers its own class and runs it."""

import clgym
from clgym.strategies.nmc import NMC


@clgym.register_strategy
class MyMean(NMC):
    pass


if __name__ == "__main__":
    record = clgym.run("my-mean", "split-digits", out="out")
    print("accuracy", record.result.last_accuracy)
