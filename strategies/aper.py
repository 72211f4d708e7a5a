"""APER (first called ADAM): adapt a copy of a pretrained network once, then class means over both.

Zhou, Cai, Ye, Zhan, Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models:
Generalizability and Adaptivity are All You Need", IJCV 2024, https://arxiv.org/abs/2303.07338; code
zhoudw-zdw/RevisitingCIL a2e6b71. In the first experience a small module (or a whole copy) is
trained with a cosine classifier, which is then thrown away. From then on nothing is trained: the
row of a class is the mean of [phi(x); phi_adapted(x)], not normalised, and the cosine decides.

Every variant has the authors' epochs, learning rate and batch size as its defaults.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.models import peft
from clgym.models.fitting import SessionTraining, TrainedConfig
from clgym.models.heads import CosineHead
from clgym.models.pretrained import ClassMeanStrategy
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch

ALIASES = ("adam",)
SPACE = {
    "variant": ["adapter", "ssf", "vpt-shallow", "vpt-deep"],
    "epochs": [5, 10, 20],
    "lr": [0.005, 0.01, 0.02, 0.05],
    "weight_decay": [0.0005, 0.005],
}

_AUTHORS: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 5, "batch_size": 128},
    "vpt-deep": {"epochs": 5, "lr": 0.05, "batch_size": 16},
}
"""Their defaults where these are not those of `AperConfig`, which hold for the other variants."""


@dataclass(frozen=True)
class AperConfig(TrainedConfig):
    """Options of `Aper`."""

    variant: Literal["finetune", "vpt-shallow", "vpt-deep", "ssf", "adapter"] = "adapter"
    """What is trained in the first experience; it brings its defaults of epochs, lr and batch_size:
    20, 0.01 and 48, with finetune 5, 0.01 and 128, with vpt-deep 5, 0.05 and 16."""
    rank: Annotated[int, Ge(1)] = 64
    """Width of an adapter's bottleneck."""
    prompts: Annotated[int, Ge(1)] = 5
    """Prompt tokens, with vpt-deep of every block."""
    dropout: Annotated[float, Ge(0), Le(1)] = 0.1
    """Dropout inside adapters, in training."""

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The authors' for the variant; see `Config.dependent_defaults`."""
        return _AUTHORS.get(str(given.get("variant")), {})


class Aper(ClassMeanStrategy[AperConfig]):
    """Class means over a frozen network and one that was adapted in the first experience.

    Attributes:
        module: What is trained: a part that hangs into the frozen network, or a copy of it.
        head: The cosine classifier of the first experience's training; None otherwise.
        classes: Sums of features of both branches, [phi(x); phi_adapted(x)].
    """

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 4,
        "epochs": 1,
    }

    @property
    def needs(self) -> Needs:
        """The backbone, and the images once more: the means are taken after training."""
        return replace(super().needs, rereads=True)

    def setup(self, info: StreamInfo) -> None:
        """Make the module; its weights come from torch's global generator."""
        super().setup(info)
        self.module = self._make_module().to(info.device)
        self.head: CosineHead | None = None
        self.training = SessionTraining(self.config)

    def _make_module(self) -> nn.Module:
        c, vit = self.config, self.backbone.model
        makers = {
            "adapter": lambda: peft.Adapters(vit, c.rank, c.dropout),
            "ssf": lambda: peft.ScaleShift(vit),
            "vpt-shallow": lambda: peft.ShallowPrompts(vit, c.prompts),
            "vpt-deep": lambda: peft.DeepPrompts(vit, c.prompts),
            "finetune": lambda: copy.deepcopy(vit).requires_grad_(True),
        }
        return makers[c.variant]()

    def train(self, experience: Experience) -> None:
        """Adapt in the first experience; then count every image once into its class's row."""
        if experience.index == 0:
            self.adapt_network(experience)
        super().train(experience)

    def remake(self, name: str) -> nn.Module:
        """The head, which a state saved inside the first experience fills."""
        return CosineHead(self.backbone.width, 0).to(self.info.device)

    def adapt_network(self, experience: Experience) -> None:
        """Train the module, all rows of a cosine classifier and its scale, on cross-entropy."""
        if self.head is None:
            width = self.backbone.width
            self.head = CosineHead(width, experience.columns).to(self.info.device)
        head, module = self.head, self.module

        def loss(batch: TrainBatch) -> Tensor:
            images = self.backbone.normalised(batch.images)
            return cross_entropy(head(self.adapted(images)), batch.labels)

        module.train()
        self.training.run(experience, [*module.parameters(), *head.parameters()], loss)
        module.eval()
        self.head = None

    def adapted(self, images: Tensor) -> Tensor:
        """Features [n, d] of the adapted network, of images as it is fed."""
        if isinstance(self.module, peft.Part):
            with self.module.on(self.backbone.model):
                return self.backbone.model(images)
        return self.module(images)

    def embed(self, batch: Batch) -> Tensor:
        """[phi(x); phi_adapted(x)], [n, 2d]: side by side, not normalised."""
        self.module.eval()
        adapted = self.adapted(self.backbone.prepare(batch.images))
        return torch.cat([self.features(batch), adapted], dim=1)
