"""LoRA over a stream: low-rank (or RandLoRA) changes of a frozen ViT, merged after every session.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
https://arxiv.org/abs/2106.09685; Albert et al., "RandLoRA: Full-Rank Parameter-Efficient
Fine-Tuning of Large Models", ICLR 2025, https://arxiv.org/abs/2502.00987; Yang et al., "CorDA:
Context-Oriented Decomposition Adaptation of Large Language Models", NeurIPS 2024, https://arxiv.org/abs/2406.05223.
The continual use is a baseline of clgym's, not of these papers: each session trains a change beside
the chosen linear layers, by the cross-entropy over its classes.

``--init corda`` begins with a part of the weight itself, chosen by the covariance of the layer's
inputs: ``preserve`` trains what matters least for these inputs, ``adapt`` what matters most.
RandLoRA keeps the order of its scalings as in peft and in the authors' code; alpha is 2 rank, not
peft's 20.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.config import When
from clgym.models import lowrank
from clgym.models.fitting import Optimizer, TrainedConfig, TrainedStrategy, check_new_classes
from clgym.models.heads import ClassMeans, CosineHead, SessionHeads, cosine_logits
from clgym.models.peft import Part
from clgym.strategy import (
    Batch,
    Experience,
    ImagesOf,
    Needs,
    StreamInfo,
    TrainBatch,
    torch_generator,
)

SPACE = {
    "epochs": [5, 10, 20],
    "lr": [0.0005, 0.001, 0.005, 0.01],
    "weight_decay": [0.0, 0.0005],
    "rank": [4, 10, 16, 32],
}


@dataclass(frozen=True)
class LoraConfig(TrainedConfig):
    """Options of `Lora`."""

    optimizer: Optimizer = "adam"
    """Optimiser, made anew for every session."""
    lr: Annotated[float, Gt(0)] = 5e-4
    """Learning rate at the beginning of a session."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of everything that is trained."""
    kind: Literal["lora", "randlora"] = "lora"
    """Change of a layer: a product of two thin matrices (lora), or of full rank, from shared random
    bases with trained scalings (randlora; a larger rank trains fewer numbers)."""
    basis: Annotated[Literal["uniform", "sparse", "very-sparse"], When("kind", "randlora")] = (
        "uniform"
    )
    """Distribution of randlora's bases."""
    rank: Annotated[int, Ge(1)] = 10
    """Rank of a change; with randlora of each base."""
    alpha: Annotated[float, Gt(0)] | None = None
    """Scale of a change times the rank; none: the rank, with randlora twice the rank."""
    targets: Literal["qkv", "qkv-proj", "all"] = "qkv"
    """Changed linear layers of each block: queries, keys and values (one layer in timm), the
    attention's output as well, or also both layers of the MLP."""
    init: Annotated[Literal["default", "corda"], When("kind", "lora")] = "default"
    """Beginning of lora's matrices: random and zero, or a part of the weight (corda)."""
    mode: Annotated[Literal["preserve", "adapt"], When("init", "corda")] = "preserve"
    """Part of the weight that corda trains: the least (preserve) or most (adapt) important for the
    calibration images."""
    calibration: Annotated[str, When("init", "corda")] = "first"
    """Images that corda's covariances come from: the first session's for all sessions (first), each
    session's own (session), or those of a source, by its name."""
    calibration_images: Annotated[int, Ge(1), When("init", "corda")] = 256
    """Number of these images. Their tokens should exceed the width of the layers' inputs."""
    adapters: Literal["merged", "sequential", "per-task"] = "merged"
    """Changes over the sessions: a new one in each, merged afterwards; one that goes on; or one per
    task, kept apart and chosen by the task id (task-incremental streams)."""
    head: Literal["linear", "prototype"] = "linear"
    """Classifier: a linear layer per session, or the cosine to class means of the features, taken
    after the session and kept although later sessions move the features."""


class Lora(TrainedStrategy[LoraConfig]):
    """Low-rank changes session by session.

    Attributes:
        current: Changes that are trained.
        active: Whether they count in the answers.
        merged: Changes of finished sessions.
        kept: Changes per task, by the task's number.
        heads: Linear layers, with ``head=linear``.
        proxy: Cosine classifier of a session's training, with ``head=prototype``.
        classes: Class means, with ``head=prototype``.
        covariances: Covariances of the calibration images, by layer.
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 4,
        "lr": 0.01,
        "epochs": 1,
    }
    transient = ("apart",)  # filled with what a prediction asks for

    @property
    def needs(self) -> Needs:
        """Task ids where changes are kept apart; images once more for means and covariances."""
        c = self.config
        again = c.head == "prototype" or c.init == "corda"
        apart = c.adapters == "per-task"
        settings = ("task-incremental",) if apart else ("class-incremental", "task-incremental")
        known = c.init == "default" or c.calibration in ("first", "session")
        images = None if known else ImagesOf(c.calibration, c.calibration_images)
        needs = super().needs
        return replace(needs, rereads=again, task_ids=apart, settings=settings, images=images)

    def setup(self, info: StreamInfo) -> None:
        """Make changes that begin as nothing.

        Raises:
            Incompatible: the backbone is no ViT.
        """
        super().setup(info)
        width = self.backbone.width
        self.current, self.apart = self._new_changes(), self._new_changes()
        self.active = False
        self.merged = lowrank.DenseChanges()
        self.kept: dict[int, dict[str, Tensor]] = {}
        self.heads = SessionHeads(width).to(info.device)
        self.proxy = CosineHead(width, 0).to(info.device)
        self.classes = ClassMeans(info.device)
        self.covariances: dict[str, Tensor] = {}
        self.seen = 0

    @property
    def alpha(self) -> float:
        """Scale of a change times the rank."""
        c = self.config
        return c.alpha or (2 * c.rank if c.kind == "randlora" else c.rank)

    def _new_changes(self) -> lowrank.LinearChanges:
        c, vit = self.config, self.backbone.model
        layers = lowrank.target_layers(vit, c.targets)
        shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
        if c.kind == "lora":
            made = {n: lowrank.LowRank(i, o, c.rank, self.alpha) for n, (o, i) in shapes.items()}
            return lowrank.LinearChanges(made).to(self.info.device)
        key = torch_generator(self.info.seed, "strategy", f"random bases of rank {c.rank}")
        bases = lowrank.RandomBases(list(shapes.values()), c.rank, key, c.basis)
        random = {n: lowrank.RandLora(i, o, c.rank, self.alpha) for n, (o, i) in shapes.items()}
        return lowrank.RandLoraChanges(random, bases).to(self.info.device)

    @contextmanager
    def attached(self, task: int | None = None) -> Iterator[None]:
        """Let the backbone compute with all changes; of those kept apart with the task's."""
        parts: list[Part] = [self.merged]
        if task in self.kept and not self.active:
            self.apart.load_state_dict(self.kept[task])
            parts.append(self.apart)
        elif self.active:
            parts.append(self.current)
        with ExitStack() as stack:
            for part in parts:
                stack.enter_context(part.on(self.backbone.model))
            yield

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient in a session."""
        linear = self.config.head == "linear"
        head = self.heads.layers[-1] if linear else self.proxy
        return [*self.current.parameters(), *head.parameters()]

    def train(self, experience: Experience) -> None:
        """Train changes and head, then merge or keep the changes."""
        c = self.config
        if self.training.begin(experience):
            self.begin(experience)

        def loss(batch: TrainBatch) -> Tensor:
            with self.attached():
                features = self.backbone.model(self.backbone.normalised(batch.images))
            head = self.heads.layers[-1] if c.head == "linear" else self.proxy
            return cross_entropy(head(features), batch.labels - experience.classes[0])

        self.active = True
        self.training.run(experience, self.trained(), loss)
        if c.adapters == "merged":
            self.merged.merge_all(self.current)
        elif c.adapters == "per-task":
            state = self.current.state_dict()
            self.kept[experience.task or 0] = {k: v.clone() for k, v in state.items()}
        self.active = c.adapters == "sequential"
        if c.head == "prototype":
            self.proxy.resize(0)
            self.measure(experience)

    def begin(self, experience: Experience) -> None:
        """Begin changes anew, unless they go on, and give the new classes a head."""
        c, size = self.config, check_new_classes(experience, self.seen)
        self.seen = experience.columns
        if experience.index == 0 or c.adapters != "sequential":
            self.active = False
            self.current.load_state_dict(self._new_changes().state_dict())
            if c.init == "corda":
                self.split_weights(experience)
        if c.head == "linear":
            self.heads.add(size)
        else:
            self.proxy.resize(size)

    @torch.no_grad()
    def split_weights(self, experience: Experience) -> None:
        """Begin the changes with parts of the weights; see `lowrank.corda_split`."""
        c = self.config
        if experience.index == 0 or c.calibration == "session":
            self.covariances = self.calibrate(experience)
        for name, layer in lowrank.target_layers(self.backbone.model, c.targets).items():
            weight = layer.weight.double()
            if name in self.merged.weights:
                weight = weight + self.merged.weights[name]
            covariance = self.covariances[name].double()
            scale = self.alpha / c.rank
            down, up = lowrank.corda_split(weight, covariance, c.rank, scale, c.mode)
            self.current[name].begin_at(down, up)

    def calibrate(self, experience: Experience) -> dict[str, Tensor]:
        """Covariances of the target layers' inputs, float32 [in, in] by name."""
        c, vit = self.config, self.backbone.model
        given = self.info.images  # of the source that the option names
        if given is None:
            order = torch.randperm(len(experience), generator=experience.generator("calibration"))
            rows = order[: c.calibration_images].to(experience.pixels.device)
            given = experience.pixels[rows]
        sums: dict[str, Tensor] = {}

        def counting(name: str) -> Any:
            def count(module: nn.Module, args: tuple[Tensor]) -> None:
                found = lowrank.input_covariance(args[0].double()) * len(args[0])
                sums[name] = sums[name] + found if name in sums else found

            return count

        layers = lowrank.target_layers(vit, c.targets)
        hooks = [m.register_forward_pre_hook(counting(name)) for name, m in layers.items()]
        try:
            for part in given.split(c.batch_size):
                images = experience.to_float(part) if self.info.images is None else part / 255
                with self.attached():
                    vit(self.backbone.prepare(images))
        finally:
            for hook in hooks:
                hook.remove()
        return {name: (total / len(given)).float() for name, total in sums.items()}

    @torch.no_grad()
    def measure(self, experience: Experience) -> None:
        """Count every image into the mean of its class."""
        for batch in experience.batches(self.config.batch_size, shuffle=False, silent=True):
            features = self.represent(batch)
            self.classes.update(features, batch.labels, experience.columns)

    def represent(self, batch: Batch) -> Tensor:
        """Features [n, width] of images that are not augmented."""
        with self.attached(batch.task):
            return self.backbone.model(self.backbone.prepare(batch.images))

    def predict(self, batch: Batch) -> Tensor:
        """Logits or cosines [n, columns] of the classes seen."""
        features = self.represent(batch)
        if self.config.head == "linear":
            return self.heads(features)
        if self.classes.sums is None:  # inside the first session: the training's own classifier
            return self.proxy(features)
        weight = self.classes.means.to(features.dtype)
        scores = cosine_logits(features, weight).nan_to_num(nan=-torch.inf)
        missing = self.seen - scores.shape[1]
        return nn.functional.pad(scores, (0, missing), value=-torch.inf)
