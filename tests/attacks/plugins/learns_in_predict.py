"""Learns from the test images: it takes its own answers for their labels."""

from clgym.strategies.nmc import NMC


class LearnsInPredict(NMC):
    """Class means that move towards the test images."""

    def predict(self, batch):
        logits = super().predict(batch)
        self.classes.update(self.embed(batch), logits.argmax(1), logits.shape[1])
        return logits
