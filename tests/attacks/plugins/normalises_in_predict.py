"""Answers by the statistics of the batch that is tested."""

from clgym.strategies.nmc import NMC


class NormalisesInPredict(NMC):
    """Class means; the answers of a batch are brought to mean 0 for every class."""

    def predict(self, batch):
        logits = super().predict(batch)
        return logits - logits.mean(0)
