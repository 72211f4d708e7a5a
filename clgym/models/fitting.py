"""Training on a pretrained network: options, one session of optimiser and schedule, and its loss.

`TrainedStrategy` is the base of the methods that train something by gradient, session by session,
on a frozen or copied ViT. What they train and by which loss is theirs; images, augmentation,
optimiser, schedule and continuation inside a session are here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.config import Search
from clgym.data.augment import random_resized_crop_flip
from clgym.errors import Incompatible
from clgym.models.norm import single_images_refused
from clgym.models.pretrained import PretrainedConfig, PretrainedStrategy
from clgym.models.rates import ScheduleName, schedule, spread
from clgym.models.schedules import Schedule
from clgym.strategy import Augment, Batch, Experience, Needs, State, StreamInfo

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
    """Gradient training over one experience; a saved state continues inside it.

    It offers the gym a safe point after every step. Its state is empty between experiences.
    """

    def __init__(self) -> None:
        """Begin between two experiences."""
        self._epoch = self._step = 0
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved: State | None = None

    @property
    def started(self) -> bool:
        """Whether a step of the present experience has been taken, here or before a restart."""
        return self._epoch + self._step > 0

    def run(
        self,
        experience: Experience,
        optimizer: torch.optim.Optimizer,
        schedule_of: Callable[[float], Schedule],
        loss_of: Callable[[Batch], Tensor],
        *,
        epochs: int,
        batch_size: int,
        augment: Augment | None = None,
        drop_last: bool = False,
    ) -> None:
        """Train to the end of the experience, from the beginning or where a state left it.

        Args:
            experience: What to train on.
            optimizer: A new one; each of its groups begins with its own rate.
            schedule_of: Function from a group's first rate to its schedule.
            loss_of: The loss of a batch.
            epochs: Passes over the experience.
            batch_size: Images per batch.
            augment: Augmentation, as `Experience.batches` takes it.
            drop_last: Whether a smaller last batch is left out, unless it is the only one.

        Raises:
            Incompatible: a single image in a batch, under batch normalisation.
        """
        self._optimizer = optimizer
        schedules = [schedule_of(group["lr"]) for group in optimizer.param_groups]
        if self._saved is not None:
            optimizer.load_state_dict(self._saved)
            self._saved = None
        steps = experience.steps(batch_size)
        with single_images_refused(len(experience), batch_size):
            while self._epoch < epochs:
                for group, rate in zip(optimizer.param_groups, schedules, strict=True):
                    group["lr"] = rate(self._epoch)
                batches = experience.batches(
                    batch_size, epoch=self._epoch, augment=augment, start=self._step
                )
                for batch in batches:
                    if drop_last and steps > 1 and len(batch) < batch_size:
                        continue
                    loss = loss_of(batch)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    self._step += 1
                    self._report(experience, epochs, steps, batch_size, float(loss.detach()))
                    experience.safe_point()
                self._epoch, self._step = self._epoch + 1, 0
        self._optimizer, self._epoch = None, 0

    def _report(
        self, experience: Experience, epochs: int, steps: int, size: int, loss: float
    ) -> None:
        rows = min(self._step * size, len(experience))
        experience.report(
            epoch=self._epoch,
            epochs=epochs,
            step=self._step,
            steps=steps,
            loss=loss,
            images=self._epoch * len(experience) + rows,
        )

    def state_dict(self) -> State:
        """Position and optimiser."""
        optimizer = None if self._optimizer is None else self._optimizer.state_dict()
        return {"position": [self._epoch, self._step], "optimizer": optimizer}

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; the optimiser takes its part in the next `run`."""
        self._epoch, self._step = state["position"]
        self._saved = state["optimizer"]


class TrainedStrategy(PretrainedStrategy):
    """A strategy that trains something on a pretrained network in each session.

    Attributes:
        training: Position inside a session.
    """

    Config: ClassVar[type] = TrainedConfig
    crop_area: ClassVar[tuple[float, float]] = (0.05, 1.0)
    """Least and greatest share of an image that the random crop of training leaves."""

    @property
    def needs(self) -> Needs:
        """The backbone, for streams of classes."""
        return Needs(backbone=self.frozen, settings=("class-incremental", "task-incremental"))

    def setup(self, info: StreamInfo) -> None:
        """Begin between two sessions."""
        super().setup(info)
        self.check_single_pass(self.passes)
        self.training = SessionTraining()

    @property
    def passes(self) -> int:
        """Passes over the images of a session."""
        return self.config.epochs

    def fit(
        self,
        experience: Experience,
        trained: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        loss_of: Callable[[Batch], Tensor],
        **changed: Any,
    ) -> None:
        """Train parameters, or groups of them, on one experience as the options say.

        Args:
            experience: What to train on.
            trained: Parameters, or optimiser's groups with rates of their own.
            loss_of: The loss of a batch.
            changed: Other values of options for this session.
        """
        c, size = self.config, self.config.image_size
        values = {name: getattr(c, name) for name in ("epochs", "lr", "schedule")} | changed
        epochs: int = values["epochs"]
        drops, name = c.drops or spread(c.milestones, epochs), values["schedule"]
        self.training.run(
            experience,
            self._optimizer(trained, values["lr"]),
            lambda first: schedule(name, first, epochs, drops, c.lr_decay, c.min_lr),
            loss_of,
            epochs=epochs,
            batch_size=c.batch_size,
            augment=lambda images, key: random_resized_crop_flip(images, size, key, self.crop_area),
            drop_last=c.drop_last,
        )

    def _optimizer(self, trained: Iterable[Any], lr: float) -> torch.optim.Optimizer:
        c, groups = self.config, list(trained)
        if c.optimizer == "sgd":
            return torch.optim.SGD(groups, lr, c.momentum, weight_decay=c.weight_decay)
        kind = torch.optim.Adam if c.optimizer == "adam" else torch.optim.AdamW
        return kind(groups, lr, weight_decay=c.weight_decay)


def session_loss(logits: Tensor, labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Cross-entropy over the columns of one session's classes alone.

    Args:
        logits: [n, columns].
        labels: int64 [n], numbers of columns.
        classes: The session's columns, ascending.
    """
    columns = torch.tensor(list(classes), device=logits.device)
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
