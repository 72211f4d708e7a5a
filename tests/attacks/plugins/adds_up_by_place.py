"""Adds up the answers to each place of a segment: the image there may be the same in all segments.

It knows how many images a segment has, which is public.
"""

import torch

from clgym.strategies.source import Source

IMAGES = 360


class AddsUpByPlace(Source):
    """The source's answers, summed over the images that came at the same place."""

    seen = 0
    sums: torch.Tensor | None = None

    def adapt(self, batch):
        answer = super().adapt(batch).log_softmax(1)
        if self.sums is None:
            self.sums = torch.zeros(IMAGES, answer.shape[1])
        places = (self.seen + torch.arange(len(batch))) % IMAGES
        self.seen += len(batch)
        self.sums.index_add_(0, places, answer)
        return self.sums[places]
