"""`ExemplarStrategy`: common base of the methods that train from scratch and keep exemplars.

The recipe is that of Cha & Cho's protocol (arXiv 2403.09066; code csm9493/GTEP 4cb3895), which took
it from PyCIL (G-U-N/PyCIL 87cc411): the first experience has its own number of epochs, learning
rate and weight decay; later ones have those of the hyper-parameters. An experience is trained on
its images and all exemplars, shuffled together. After training ``memory_size // classes seen``
exemplars of each class are kept, ranked by herding on images without augmentation. Two heads
predict: the network's own (linear), and the nearest mean of exemplars (nme); the record has the
accuracies of both, and the option ``head`` says which of them is scored.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from typing_extensions import TypeVar

from clgym.avalanche.sgd import SGDConfig
from clgym.avalanche.stages import Stage, StagedStrategy
from clgym.data.to_device import to_device
from clgym.errors import BadConfig, Incompatible
from clgym.models import networks, schedules
from clgym.models.exemplars import class_means, herding, nearest_mean_logits
from clgym.models.incremental import IncrementalClassifier
from clgym.models.schedules import Cosine, Schedule, Steps
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch
from clgym.text import Json

__all__ = ["ExemplarConfig", "ExemplarStrategy"]


@dataclass(frozen=True)
class ExemplarConfig(SGDConfig):
    """Options of every method that trains from scratch with exemplars."""

    lr: Annotated[float, Gt(0)] = 0.1
    """Learning rate, from the second experience on."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of SGD; its state starts afresh with every experience and stage."""
    weight_decay: Annotated[float, Ge(0)] = 2e-4
    """Weight decay (L2 penalty) on all parameters, from the second experience on."""
    epochs: Annotated[int, Ge(1)] = 70
    """Number of epochs of each experience after the first."""
    schedule: Literal["step", "cosine"] = "step"
    """Course of the learning rate: multiplied by lr_decay at milestones (step), or along a cosine
    to 0 (cosine); in the first experience, too."""
    milestones: Annotated[int, Ge(0)] = 0
    """Number k of milestones of the schedule step, at the fractions 2i/(2k+1) of the epochs; 0: at
    those of lr_drops."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (3 / 7, 5 / 7)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    lr_decay: Annotated[float, Ge(0), Le(1)] = 0.1
    """Factor of the learning rate at each milestone."""
    first_epochs: Annotated[int, Ge(1)] = 200
    """Number of epochs of the first experience."""
    first_lr: Annotated[float, Gt(0)] = 0.1
    """Learning rate of the first experience."""
    first_lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (0.3, 0.6, 0.85)
    """Fractions of the first experience's epochs at which its learning rate falls."""
    first_lr_decay: Annotated[float, Ge(0), Le(1)] = 0.1
    """Factor of the first experience's learning rate at each of first_lr_drops."""
    first_weight_decay: Annotated[float, Ge(0)] = 5e-4
    """Weight decay (L2 penalty) of the first experience."""
    batch_size: Annotated[int, Ge(1)] = 128
    """Images per step, new ones and exemplars together. A last batch of one image joins the batch
    before it where batch normalisation cannot process it."""
    network: str = "resnet18"
    """Network to train from scratch: mlp, mobilenetv2, resnet18, resnet18-7x7, resnet18-dst,
    resnet32, resnet50, resnet50-bottleneck, slim-resnet18, slim-resnet18-7x7-pool,
    two-convolutions, vgg11, vgg16."""
    stem: networks.StemName = "3x3"
    """First convolution of resnet18 and slim-resnet18: 3x3 with stride 1, the same and a
    max-pooling of stride 2 (3x3-pool), or 7x7 with stride 2 and such a pooling (7x7-pool). The
    protocol has 3x3 for CIFAR, 7x7-pool for ImageNet in equal experiences and 3x3-pool for
    ImageNet with a larger first one."""
    augment: Literal[  # type: ignore[assignment]  # more of them than `SGDConfig` offers
        "none", "crop-flip", "crop-flip-brightness", "resized-crop-flip"
    ] = "crop-flip-brightness"
    """Augmentation of training batches: random crop (padding 4) and flip; the same and a change of
    brightness by up to 63/255, as the protocol has it for CIFAR; a random resized crop and flip,
    as it has it for ImageNet."""
    memory_size: Annotated[int, Ge(1)] = 2000
    """Maximum number of exemplars, divided equally among the classes seen."""
    selection: Literal["herding", "random"] = "herding"
    """Ranking of a class's images, of which the first are kept: herding, or random."""
    head: Literal["linear", "nme"] = "linear"
    """Head whose predictions count: the network's own (linear), or the nearest mean of exemplars
    (nme). The record has the accuracies of both."""


C = TypeVar("C", bound=ExemplarConfig, default=Any)


class ExemplarStrategy(StagedStrategy[C]):
    """Training on new images and exemplars together, then a new choice of exemplars.

    Subclasses change the `objective`, or the `stages`; where ``TEACHER`` is set, `teacher` is the
    network as it was after the previous experience. ``RECTIFIED`` says whether the last map of a
    backbone with stages passes a ReLU.

    Attributes:
        known: Number of classes before the present experience; between experiences, of all classes
            seen.
        means: float64 [classes, d], means of the exemplars' unit-length features by the current
            network.
        teacher: Network after the previous experience, in evaluation mode.
        extraction_batch: Number of images whose features are computed together.
    """

    Config: ClassVar[type] = ExemplarConfig
    TEACHER: ClassVar[bool] = False
    RECTIFIED: ClassVar[bool] = True
    extraction_batch: int = 256
    CHECK_CONFIG: ClassVar[dict[str, Json]] = {
        "network": "mlp",
        "first_epochs": 2,
        "epochs": 2,
        "memory_size": 24,
        "batch_size": 8,
        "augment": "none",
    }

    @property
    def needs(self) -> Needs:
        """A memory; images are read once more for the choice of exemplars."""
        return Needs(memory=self.config.memory_size, rereads=True, settings=("class-incremental",))

    def setup(self, info: StreamInfo) -> None:
        """Build the network, and the teacher's, which has no class yet."""
        super().setup(info)
        self.known = 0
        self.means: Tensor | None = None
        self.teacher: nn.Module | None = None
        if self.TEACHER:
            self.teacher = self.make_network(0).eval()

    def make_backbone(self) -> tuple[nn.Module, int]:
        """A fresh backbone, and the length of its feature vectors.

        Raises:
            BadConfig: The option ``stem`` is given for a network without a choice of stems.
        """
        config, shape = self.config, self.info.image_shape
        if config.network in get_args(networks.StagedName):
            name: Any = config.network
            made = networks.staged(name, shape[0], config.stem, last_relu=self.RECTIFIED)
            return made, made.width
        if config.stem != "3x3":
            raise BadConfig(
                expected="a stem for resnet18 or slim-resnet18 only",
                found=f"{config.stem} for {config.network}",
                fix="Remove --stem, or give --network resnet18",
            )
        network = networks.build(config.network, shape, 1, hidden=config.hidden)
        return network.backbone, network.head.in_features

    def make_network(self, columns: int) -> Any:
        """A fresh network on the device whose head has no class yet, whatever ``columns``."""
        return self.classifier().to(self.info.device)

    def classifier(self) -> Any:
        """The network on the CPU: a backbone with a head that grows; see `make_network`."""
        return IncrementalClassifier(*self.make_backbone(), self.info.mean, self.info.std)

    def begin(self, experience: Experience) -> None:
        """Widen the head for the new classes.

        Raises:
            Incompatible: The experience brings no new class.
            BadConfig: The memory has no room for one exemplar of each class.
        """
        if experience.columns == self.known:
            raise Incompatible(
                expected="experiences that each bring new classes",
                found=f"experience {experience.index} with classes that have all come before",
                fix="Use a class-incremental stream without recurring classes",
            )
        if self.config.memory_size < experience.columns:
            raise BadConfig(
                expected=f"room for an exemplar of each of {experience.columns} classes",
                found=f"memory_size = {self.config.memory_size}",
                fix=f"Give --memory-size {experience.columns} or more",
            )
        self.network.grow(experience.columns)

    # Training.

    def objective(self, batch: TrainBatch, output: Any) -> Tensor:
        """The loss of a batch of new images and exemplars: cross-entropy over all classes.

        Args:
            batch: Images, with their labels.
            output: What the network returned: logits [n, classes].
        """
        return self.loss(output, batch.labels)

    @torch.no_grad()
    def taught(self, batch: TrainBatch) -> Any:
        """Output of the teacher for the same images, from the second experience on."""
        assert self.teacher is not None
        return self.teacher(batch.images)

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """One stage: the whole network on the data of the experience."""
        return [self.training_stage(experience)]

    def training_stage(self, experience: Experience, **changed: Any) -> Stage:
        """The stage that every method begins with, by the recipe of this experience.

        Args:
            experience: The present one.
            changed: Fields of the stage that differ.
        """
        network: Any = changed.get("network", self.network)
        usual: dict[str, Any] = {  # fields of a `Stage`
            **self.recipe(experience),
            "network": network,
            "parameters": list(network.parameters()),
            "loss": self.objective,
            "data": lambda: self.with_exemplars(experience),
        }
        return Stage(**{**usual, **changed})

    def recipe(self, experience: Experience) -> dict[str, Any]:  # fields of a `Stage`
        """Epochs, rate and weight decay of an experience's training."""
        c = self.config
        if experience.index == 0:
            rate = self.schedule("first", c.first_epochs, c.first_lr)
            return dict(epochs=c.first_epochs, rate=rate, weight_decay=c.first_weight_decay)
        rate = self.schedule("train", c.epochs, c.lr)
        return dict(epochs=c.epochs, rate=rate, weight_decay=c.weight_decay)

    def schedule(self, stage: str, epochs: int, lr: float) -> Schedule:
        """The learning rate of a stage by the options ``schedule`` and ``milestones``."""
        if self.config.schedule == "cosine":
            return Cosine(lr, epochs)
        return self.steps(stage, epochs, lr)

    def steps(self, stage: str, epochs: int, lr: float) -> Steps:
        """The learning rate of a stage by the schedule step."""
        decay = self.config.first_lr_decay if stage == "first" else self.config.lr_decay
        return Steps(lr, self.drops(stage, epochs), decay)

    def drops(self, stage: str, epochs: int) -> tuple[int, ...]:
        """Epochs of a stage at which its learning rate falls.

        Args:
            stage: ``first`` for the first experience's training, ``train`` for that of later ones,
                or the name of a further stage.
            epochs: Number of epochs of the stage.
        """
        if stage == "first":
            return schedules.at_fractions(self.config.first_lr_drops, epochs)
        if self.config.milestones:
            return schedules.milestones(self.config.milestones, epochs)
        return schedules.at_fractions(self.config.lr_drops, epochs)

    # Exemplars.

    def with_exemplars(self, experience: Experience) -> Experience:
        """The rows of the experience and all exemplars behind them."""
        memory = self.info.memory
        if not len(memory):
            return experience
        return experience.joined(memory["pixels"], memory["labels"])

    def after_experience(self, experience: Experience) -> None:
        """Choose exemplars, compute their means, and copy the network for the next experience."""
        self.choose_exemplars(experience)
        self.means = self.exemplar_means(experience)
        self.known = experience.columns
        if self.TEACHER:
            self.teacher = copy.deepcopy(self.network).eval()

    def choose_exemplars(self, experience: Experience) -> None:
        """Keep the first exemplars of each old class and of the ranking of each new one."""
        memory, share = self.info.memory, self.config.memory_size // experience.columns
        pixels, labels = [], []
        for label, rows in memory.rows_by("labels").items():
            pixels.append(memory["pixels"][rows[:share]])
            labels += [label] * len(pixels[-1])
        for label, rows in self.ranked(experience, share).items():
            pixels.append(experience.pixels[rows])
            labels += [label] * len(rows)
        stored = to_device(torch.tensor(labels), experience.labels.device)
        memory.replace(pixels=torch.cat(pixels), labels=stored)

    def ranked(self, experience: Experience, count: int) -> dict[int, Tensor]:
        """Rows of the best ``count`` images of each new class, best first, by class."""
        found = {}
        for label in range(self.known, experience.columns):
            rows = (experience.labels == label).nonzero()[:, 0]
            if self.config.selection == "random":
                draws = experience.generator("exemplars", f"class {label}")
                order = to_device(torch.randperm(len(rows), generator=draws)[:count], rows.device)
            else:
                order = herding(self.features_of(experience, experience.pixels[rows]), count)
            found[label] = rows[order]
        return found

    def exemplar_means(self, experience: Experience) -> Tensor:
        """Means of all exemplars' features by the current network; see `class_means`."""
        memory = self.info.memory
        features = self.features_of(experience, memory["pixels"])
        return class_means(features, memory["labels"], experience.columns)

    @torch.no_grad()
    def features_of(self, experience: Experience, pixels: Tensor) -> Tensor:
        """Features [n, d] of stored pixels by the network in evaluation mode, not augmented."""
        self.network.eval()
        parts = pixels.split(self.extraction_batch)
        return torch.cat([self.network.features(experience.to_float(part)) for part in parts])

    # Predictions.

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, classes seen] of the head that the option ``head`` names."""
        return self._logits(batch, self.config.head)

    def predict_by_head(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of both heads: the network's own, and negative squared distances to means."""
        return {head: self._logits(batch, head) for head in ("linear", "nme")}

    def _logits(self, batch: Batch, head: str) -> Tensor:
        if self.network.training:
            self.network.eval()
        features = self.network.features(batch.images)
        if head == "linear":
            return self.network.logits(features)
        assert self.means is not None
        return nearest_mean_logits(features, self.means)
