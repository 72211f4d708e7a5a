"""Nearest class mean that answers by two heads; the second one names the next class."""

from clgym.strategies.nmc import NMC

HEAD = "next"


class TwoHeads(NMC):
    def predict_by_head(self, batch):
        logits = self.predict(batch)
        return {"mean": logits, HEAD: logits.roll(1, dims=1)}
