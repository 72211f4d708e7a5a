"""Answers by what it was asked before, which it keeps outside its state."""

from clgym.strategies.nmc import NMC


class CountsInPredict(NMC):
    """Class means that drift with the number of images asked for."""

    asked = 0

    def predict(self, batch):
        self.asked += len(batch)
        logits = super().predict(batch)
        logits[:, 0] += self.asked * logits.abs().max() / 100
        return logits
