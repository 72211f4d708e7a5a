"""Training on a pretrained network: options, one session of optimiser and schedule, and its loss.

`TrainedStrategy` is the base of the methods that train something by gradient, session by session,
on a frozen or copied ViT. What they train and by which loss is theirs; images, augmentation,
optimiser, schedule and continuation inside a session are here.
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
    """Passes over the images of a session."""
    batch_size: Annotated[int, Ge(1), Search(8, 16, 24, 48, 64, 128)] = 48
    """Images per batch."""
    drop_last: bool = False
    """Leave out a smaller last batch of an epoch, unless it is the only one."""
    optimizer: Optimizer = "sgd"
    """Optimiser, made anew for every session. Weight decay under adam moves parameters without a
    gradient, such as the rows of old classes, by about lr per step towards 0."""
    lr: Annotated[float, Gt(0), Search(0.01, 0.02, 0.03, 0.04, 0.05)] = 0.01
    """Learning rate at the beginning of a session."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of sgd; the other optimisers do not use it."""
    weight_decay: Annotated[float, Ge(0), Search(0.0001, 0.0005, 0.001, 0.005)] = 5e-4
    """Weight decay of everything that is trained."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "cosine"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    milestones: Annotated[int, Ge(1), Search(2, 3, 4, when={"schedule": ["step"]})] = 3
    """Number k of milestones of step: at the fractions 2i/(2k+1) of the epochs, truncated."""
    drops: tuple[Annotated[int, Ge(0)], ...] = ()
    """Epochs, counted from 0, at which step multiplies the rate, in the place of milestones; one
    given twice acts twice."""
    lr_decay: Annotated[float, Ge(0), Le(1), Search(0.1, 0.3, 0.5, when={"schedule": ["step"]})] = (
        0.1
    )
    """Factor of the learning rate at a milestone."""
    min_lr: Annotated[float, Ge(0)] = 0.0
    """Learning rate that cosine falls to."""


class SessionTraining:
    """Gradient training over one experience after the other, as the options say.

    Images are augmented at the network's size. It offers the gym a safe point after every step, and
    goes on from there after a kill: a strategy keeps it as an attribute.

    Attributes:
        position: How far the experience has come.
    """

    def __init__(self, config: TrainedConfig, crop_area: tuple[float, float] = (0.05, 1.0)) -> None:
        """Begin between two experiences.

        Args:
            config: Options of the strategy.
            crop_area: Least and greatest share of an image that the random crop leaves.
        """
        self.position = Position()
        self._config, self._crop_area = config, crop_area

    def begin(self, experience: Experience) -> bool:
        """Point at the beginning of an experience, unless a loaded state is inside it.

        Returns:
            Whether it begins now: what a session makes anew is made then.
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
        """Train to the end of an experience, from its beginning or where a state left it.

        Args:
            experience: What to train on.
            trained: Parameters, or optimiser's groups with rates of their own.
            loss_of: The loss of a batch.
            after_step: Called when the optimiser has moved.
            changed: Other values of options, for this experience.

        Raises:
            Incompatible: a single image in a batch, under batch normalisation.
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
        """Restore `state_dict`; the optimiser takes its part in the next `run`."""
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
        training: Runs a session's training, and knows how far it is.
    """

    Config: ClassVar[type] = TrainedConfig
    crop_area: ClassVar[tuple[float, float]] = (0.05, 1.0)
    """Least and greatest share of an image that the random crop of training leaves."""

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
    """Cross-entropy over the columns of one session's classes alone.

    Args:
        logits: [n, columns].
        labels: int64 [n], numbers of columns.
        classes: The session's columns, ascending.
    """
    columns = to_device(torch.tensor(list(classes)), logits.device)
    return cross_entropy(logits[:, columns], torch.searchsorted(columns, labels))


def check_new_classes(experience: Experience, seen: int) -> int:
    """Number of classes of an experience, all of which must be new.

    Raises:
        Incompatible: some of its classes have been there before.
    """
    old = [column for column in experience.classes if column < seen]
    if old:
        raise Incompatible(
            expected="new classes in every experience: the method has one part for each of them",
            found=f"{len(old)} of {len(experience.classes)} classes that were there before",
            fix="Use a stream whose experiences have no class in common",
        )
    return len(experience.classes)


def count_trained(parameters: Iterable[Tensor]) -> int:
    """Number of values in parameters that take a gradient."""
    return sum(p.numel() for p in parameters if p.requires_grad)
