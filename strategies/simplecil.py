"""SimpleCIL: no training, the mean feature of a class is its row of a cosine classifier.

Zhou, Cai, Ye, Zhan, Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models:
Generalizability and Adaptivity are All You Need", IJCV 2024, https://arxiv.org/abs/2303.07338.
Features of a frozen backbone are averaged as they are, not normalised (`nmc` normalises first), and
compared by cosine.
"""

from typing import ClassVar

from clgym.models.pretrained import ClassMeanStrategy


class SimpleCIL(ClassMeanStrategy):
    """Class means of frozen features under the cosine."""

    DETERMINISTIC: ClassVar[bool] = True
    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
    }
