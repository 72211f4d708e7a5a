"""SimpleCIL: no training, the mean feature of a class is its row of a cosine classifier.

Zhou, Cai, Ye, Zhan, Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models:
Generalizability and Adaptivity are All You Need", IJCV 2024, https://arxiv.org/abs/2303.07338.
Features of a frozen backbone are averaged as they are, not normalised (`nmc` normalises first), and
compared by cosine.
"""

from typing import ClassVar

import torch
from torch import Tensor

from clgym.models.heads import ClassMeans, cosine_logits
from clgym.models.pretrained import PretrainedStrategy
from clgym.strategy import Batch, Experience, StreamInfo


class SimpleCIL(PretrainedStrategy):
    """Class means of frozen features under the cosine."""

    DETERMINISTIC: ClassVar[bool] = True
    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
    }

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class."""
        super().setup(info)
        self.classes = ClassMeans(info.device)

    def train(self, experience: Experience) -> None:
        """Add every feature once to its class's sum."""
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            self.classes.update(self.features(batch), batch.labels, experience.columns)

    def predict(self, batch: Batch) -> Tensor:
        """Cosines [n, columns]; a class without an image gets -inf: a cosine may be negative."""
        features = self.features(batch)
        weight = self.classes.means.to(features.dtype)
        return cosine_logits(features, weight).nan_to_num(nan=-torch.inf)
