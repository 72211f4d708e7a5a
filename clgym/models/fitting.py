"""Training on a pretrained network: options, optimiser and schedule of a session, and its loss.

`TrainedStrategy` is the base of the methods that train by gradient, session by session, on a frozen
or copied ViT. The methods define what is trained and the loss; this module handles images,
augmentation, optimiser, schedule and continuation inside a session.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import TypeVar

from clgym.config import Search
from clgym.data.augment import random_resized_crop_flip
from clgym.data.to_device import to_device
from clgym.errors import Incompatible
from clgym.models.norm import single_images_refused
from clgym.models.pretrained import PretrainedConfig, PretrainedStrategy
from clgym.models.rates import ScheduleName, schedule, spread
from clgym.models.training import Position
from clgym.strategy import Experience, Needs, State, StreamInfo, TrainBatch

__all__ = [
    "Optimizer",
    "SessionTraining",
    "TrainedConfig",
    "TrainedStrategy",
    "check_new_classes",
    "count_trained",
    "session_loss",
]


Optimizer = Annotated[Literal["sgd", "adam", "adamw"], Search("sgd", "adam", "adamw")]


@dataclass(frozen=True)
class TrainedConfig(PretrainedConfig):
    """Options of every strategy that trains on a pretrained network by gradient."""

    epochs: Annotated[int, Ge(1), Search(5, 10, 15, 20, 25, 30)] = 20
    """Number of passes over the images of a session."""
    batch_size: Annotated[int, Ge(1), Search(8, 16, 24, 48, 64, 128)] = 48
    """Number of images per batch."""
    drop_last: bool = False
    """Skip the last batch of an epoch if it is smaller, unless it is the only one."""
    optimizer: Optimizer = "sgd"
    """Optimiser, created anew for every session. Weight decay under adam moves parameters without a
    gradient, such as the rows of old classes, by about lr per step towards 0."""
    lr: Annotated[float, Gt(0), Search(0.01, 0.02, 0.03, 0.04, 0.05)] = 0.01
    """Learning rate at the beginning of a session."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of sgd; the other optimisers do not use it."""
    weight_decay: Annotated[float, Ge(0), Search(0.0001, 0.0005, 0.001, 0.005)] = 5e-4
    """Weight decay of all trained parameters."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "cosine"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    milestones: Annotated[int, Ge(1), Search(2, 3, 4, when={"schedule": ["step"]})] = 3
    """Number k of milestones of step: at the fractions 2i/(2k+1) of the epochs, truncated."""
    drops: tuple[Annotated[int, Ge(0)], ...] = ()
    """Epochs, counted from 0, at which step multiplies the rate, instead of milestones; an epoch
    that is given twice counts twice."""
    lr_decay: Annotated[float, Ge(0), Le(1), Search(0.1, 0.3, 0.5, when={"schedule": ["step"]})] = (
        0.1
    )
    """Factor of the learning rate at a milestone."""
    min_lr: Annotated[float, Ge(0)] = 0.0
    """Learning rate that cosine falls to."""


class SessionTraining:
    """Gradient training over one experience after the other, as set by the options.

    Images are augmented at the network's size. It offers the gym a safe point after every step,
    from which a killed run continues, provided that the strategy keeps this object as an attribute.

    Attributes:
        position: Progress of training within the experience.
    """

    def __init__(self, config: TrainedConfig, crop_area: tuple[float, float] = (0.05, 1.0)) -> None:
        """Begin outside any experience.

        Args:
            config: Options of the strategy.
            crop_area: Smallest and largest fraction of an image's area that the random crop keeps.
        """
        self.position = Position()
        self._config, self._crop_area = config, crop_area

    def begin(self, experience: Experience) -> bool:
        """Go to the beginning of an experience, unless a loaded state is inside it.

        Returns:
            Whether the experience begins now, so that the caller must create new parts.
        """
        return self.position.begin(experience.index)

    def run(
        self,
        experience: Experience,
        trained: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        loss_of: Callable[[TrainBatch], Tensor],
        after_step: Callable[[], None] = lambda: None,
        **changed: Any,
    ) -> None:
        """Train to the end of an experience, from its beginning or from a loaded state.

        Args:
            experience: Experience to train on.
            trained: Parameters, or parameter groups of the optimiser with separate rates.
            loss_of: Function that returns the loss of a batch.
            after_step: Called after each step of the optimiser.
            changed: Values of options that replace the strategy's for this experience.

        Raises:
            Incompatible: A batch has a single image, and the network uses batch normalisation.
        """
        c, here = replace(self._config, **changed), self.position
        here.begin(experience.index)
        optimizer = _optimizer(c, trained)
        drops = c.drops or spread(c.milestones, c.epochs)
        schedules = [
            schedule(c.schedule, group["lr"], c.epochs, drops, c.lr_decay, c.min_lr)
            for group in optimizer.param_groups
        ]
        here.take(optimizer)
        with single_images_refused(len(experience), c.batch_size):
            while here.epoch < c.epochs:
                for group, rate in zip(optimizer.param_groups, schedules, strict=True):
                    group["lr"] = rate(here.epoch)
                self._pass(experience, c, loss_of, after_step)
        here.end()

    def _pass(
        self,
        experience: Experience,
        c: TrainedConfig,
        loss_of: Callable[[TrainBatch], Tensor],
        after_step: Callable[[], None],
    ) -> None:
        here, optimizer = self.position, self.position.optimizer
        assert optimizer is not None
        whole = c.drop_last and experience.steps(c.batch_size) > 1
        for batch in experience.batches(
            c.batch_size,
            epoch=here.epoch,
            epochs=c.epochs,
            augment=lambda x, key: random_resized_crop_flip(x, c.image_size, key, self._crop_area),
            start=here.step,
        ):
            if whole and len(batch) < c.batch_size:
                continue
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step()
            here.step += 1
            experience.loss = loss.detach()
            experience.safe_point()
        here.epoch, here.step = here.epoch + 1, 0

    def state_dict(self) -> State:
        """Position and optimiser."""
        return self.position.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; the optimiser's state is restored in the next `run`."""
        self.position.load_state_dict(state)


def _optimizer(c: TrainedConfig, trained: Iterable[Any]) -> torch.optim.Optimizer:
    groups = list(trained)
    if c.optimizer == "sgd":
        return torch.optim.SGD(groups, c.lr, c.momentum, weight_decay=c.weight_decay)
    kind = torch.optim.Adam if c.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, c.lr, weight_decay=c.weight_decay)


C = TypeVar("C", bound=TrainedConfig, default=Any)


class TrainedStrategy(PretrainedStrategy[C]):
    """A strategy that trains something on a pretrained network in each session.

    Attributes:
        training: Runs a session's training and keeps its progress.
    """

    Config: ClassVar[type] = TrainedConfig
    crop_area: ClassVar[tuple[float, float]] = (0.05, 1.0)
    """Smallest and largest fraction of an image's area that the random crop in training keeps."""

    @property
    def needs(self) -> Needs:
        """The backbone, for streams of classes."""
        return Needs(backbone=self.frozen, settings=("class-incremental", "task-incremental"))

    @property
    def passes(self) -> int:
        """Passes over the images of a session."""
        return self.config.epochs

    def setup(self, info: StreamInfo) -> None:
        """Begin between two sessions."""
        super().setup(info)
        self.check_single_pass(self.passes)
        self.training = SessionTraining(self.config, self.crop_area)


def session_loss(logits: Tensor, labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Cross-entropy over the classes of one session only.

    Args:
        logits: [n, columns].
        labels: Class indices, int64 [n].
        classes: Class indices of the session, ascending.
    """
    columns = to_device(torch.tensor(list(classes)), logits.device)
    return cross_entropy(logits[:, columns], torch.searchsorted(columns, labels))


def check_new_classes(experience: Experience, seen: int) -> int:
    """Return the number of classes of an experience, all of which must be new.

    Raises:
        Incompatible: Some of its classes have been seen before.
    """
    old = [column for column in experience.classes if column < seen]
    if old:
        raise Incompatible(
            expected="new classes in every experience, since the method has a module for each "
            "experience",
            found=f"{len(old)} of {len(experience.classes)} classes that were seen before",
            fix="Use a stream whose experiences have no class in common",
        )
    return len(experience.classes)


def count_trained(parameters: Iterable[Tensor]) -> int:
    """Number of values in parameters that take a gradient."""
    return sum(p.numel() for p in parameters if p.requires_grad)
