"""Replays from a buffer of its own, and declares no memory: careless, or dishonest."""

import torch

from clgym.avalanche import SGDStrategy


class OwnBuffer(SGDStrategy):
    """Keeps the first ten images of every experience."""

    def setup(self, info):
        super().setup(info)
        self.buffer = []

    def rehearse(self, batch):
        if not self.buffer:
            return None
        pixels, labels = (torch.cat(parts) for parts in zip(*self.buffer, strict=True))
        images = self.experience.to_float(pixels)
        return type(batch)(images, labels, tasks=torch.zeros_like(labels), pixels=pixels)

    def after_experience(self, experience):
        self.buffer.append((experience.pixels[:10].clone(), experience.labels[:10].clone()))
