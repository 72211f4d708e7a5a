"""Networks that know tasks: a head for each, or one head that answers for one task at a time.

Answers always have a column for every class seen. Columns of other tasks hold `MASK`, so that a
softmax over all columns is one over the task's own, and labels need not be renumbered.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from avalanche.models import MultiTaskModule
from avalanche.models.base_model import BaseModel
from torch import Tensor, nn

from clgym.models.networks import Classifier

__all__ = [
    "CURRENT",
    "MASK",
    "Heads",
    "TaskNetwork",
    "logits_of_tasks",
    "match_loss",
    "with_heads",
]

Heads = Literal["per-task", "shared-masked", "shared"]

MASK = -1000.0
"""Logit of a class of another task, as in Avalanche: 0 after a softmax, and its square is
finite."""

CURRENT: Any = object()
"""Value instead of task ids for the task that was added last."""


class TaskNetwork(Classifier, MultiTaskModule, BaseModel):
    """A network that is asked for one task at a time; made by `with_heads`.

    It is one of Avalanche's multi-task modules: its strategies and plugins call it with task ids.

    Attributes:
        own: Columns of each task, in the order of the units that answer for them.
        task: The one that is answered for where no task ids are given: the last that was added.
        width: Length of a feature vector.
    """

    own: dict[int, tuple[int, ...]]
    task: int
    width: int
    _auto_adapt = True

    @property
    def columns(self) -> int:
        """Classes of all tasks so far."""
        return 1 + max((max(own) for own in self.own.values()), default=0)

    def grow(self, columns: int) -> None:
        """Do nothing: columns are added with their task."""

    def add(self, task: int, classes: Sequence[int]) -> None:
        """Make ``task`` the present one; if it is new, or brings classes, it gets units.

        Args:
            task: Its id.
            classes: Its columns.
        """
        old = self.own.get(task, ())
        new = tuple(c for c in sorted(classes) if c not in old)
        self.own[task], self.task = (*old, *new), task
        self.known_train_tasks_labels.add(task)
        if new:
            self._add_units(task)

    def follow(self, other: "TaskNetwork") -> None:
        """Know the tasks that ``other`` knows; the units of new ones are copies of its."""
        for task, own in other.own.items():
            if task not in self.own:
                self._copy_units(other, task)
                self.own[task] = own
                self.known_train_tasks_labels.add(task)
        self.task = other.task

    def structure(self) -> list[Any]:
        """The tasks known, with their columns, and the present one; see `clgym.attributes`."""
        return [[[task, list(own)] for task, own in self.own.items()], self.task]

    def restructure(self, structure: list[Any]) -> None:
        """Create the units that a `structure` describes; a loaded state then sets their weights."""
        tasks, present = structure
        for task, own in tasks:
            known, self.own[task] = self.own.get(task, ()), tuple(own)
            self.known_train_tasks_labels.add(task)
            if len(own) > len(known):
                self._add_units(task)
        self.task = present

    def adaptation(self, experience: Any) -> None:
        """Called by Avalanche before it trains."""
        (task,) = experience.task_labels
        if task not in self.own:
            self.add(task, experience.classes_in_this_experience)

    # Avalanche's own lacks the annotation: its body, a docstring, is taken for None.
    def get_features(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor
    ) -> Tensor:
        """Features, by Avalanche's name for them."""
        return self.features(x)

    # Avalanche passes both by position; its own classes do not agree on the names.
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Tensor, task_labels: Any = CURRENT
    ) -> Any:
        """Logits [n, columns] of images in [0, 1], each for its task.

        Args:
            images: [n, C, H, W].
            task_labels: One for all, or int64 [n]; None for the answers for all tasks, by task id,
                as Avalanche asks for them; nothing for the present task.
        """
        features = self.features(images)
        if task_labels is None:
            return {task: self.answers(features, task) for task in self.own}
        if task_labels is CURRENT:
            task_labels = self.task
        if isinstance(task_labels, int):
            return self.answers(features, task_labels)
        tasks = task_labels.unique().tolist()
        if len(tasks) == 1:
            return self.answers(features, tasks[0])
        logits = features.new_full((len(features), self.columns), MASK)
        for task in tasks:
            rows = task_labels == task
            logits[rows] = self.answers(features[rows], task)
        return logits

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, columns] of features for the present task."""
        return self.answers(features, self.task)

    def answers(self, features: Tensor, task: int) -> Tensor:
        """Logits [n, columns] of features for one task."""
        own, found = self.own[task], self._units(features, task)
        first, count = own[0], len(own)
        if own == tuple(range(first, first + count)):
            return F.pad(found, (first, self.columns - first - count), value=MASK)
        places = torch.full((self.columns,), count, device=found.device)
        places[list(own)] = torch.arange(count, device=found.device)
        return F.pad(found, (0, 1), value=MASK)[:, places]

    def _units(self, features: Tensor, task: int) -> Tensor:
        """Outputs of the task's units, [n, len(own)]."""
        raise NotImplementedError

    def _add_units(self, task: int) -> None:
        """Make units for the classes of ``task`` that have none."""
        raise NotImplementedError

    def _copy_units(self, other: Any, task: int) -> None:
        """Take over the units that ``other`` has for ``task``."""
        raise NotImplementedError

    def _widened(self, old: nn.Linear | None, units: int) -> nn.Linear:
        """A linear layer of ``units`` units, the first of which are those of ``old``."""
        made = nn.Linear(self.width, units).to(self.mean)
        if old is not None:
            with torch.no_grad():
                made.weight[: len(old.weight)] = old.weight
                made.bias[: len(old.bias)] = old.bias
        return made


class PerTask(TaskNetwork):
    """A linear head for every task.

    Attributes:
        heads: By task id.
    """

    heads: nn.ModuleDict

    @property
    def head(self) -> Any:
        """The present task's."""
        return self.heads[str(self.task)]

    def _add_units(self, task: int) -> None:
        old: Any = dict(self.heads.items()).get(str(task))
        self.heads[str(task)] = self._widened(old, len(self.own[task]))

    def _copy_units(self, other: Any, task: int) -> None:
        self.heads[str(task)] = copy.deepcopy(other.heads[str(task)])

    def _units(self, features: Tensor, task: int) -> Tensor:
        return self.heads[str(task)](features)


class SharedMasked(TaskNetwork):
    """One linear head, of which a task uses its own columns only."""

    def _add_units(self, task: int) -> None:
        if self.columns > self.head.out_features:
            self.head = self._widened(self.head, self.columns)

    def _copy_units(self, other: Any, task: int) -> None:
        if other.head.out_features > self.head.out_features:
            old, self.head = self.head, copy.deepcopy(other.head)
            with torch.no_grad():
                self.head.weight[: old.out_features] = old.weight
                self.head.bias[: old.out_features] = old.bias

    def _units(self, features: Tensor, task: int) -> Tensor:
        return self.head(features)[:, list(self.own[task])]


def with_heads(network: Classifier, heads: Heads) -> Classifier:
    """The same network, which knows no task yet; with ``shared`` heads, as it is."""
    made: Any = network
    if heads == "shared":
        return made
    width = network.head.in_features
    if heads == "per-task":
        del made.head
        made.heads = nn.ModuleDict()
    made.__class__ = PerTask if heads == "per-task" else SharedMasked
    made.own, made.task, made.width = {}, -1, width
    made.known_train_tasks_labels, made.max_class_label = set(), 0
    return made


def logits_of_tasks(network: Any, images: Tensor, tasks: Tensor | int | None) -> Tensor:
    """Logits [n, columns] of images, each for its task; of a single head where there is one."""
    return network(images, tasks) if isinstance(network, TaskNetwork) else network(images)


def match_loss(network: Any, logits: Tensor, stored: Tensor) -> Tensor:
    """Mean squared distance of logits to stored ones, over the classes of each sample's task.

    Args:
        network: Network of the logits; without tasks all columns count.
        logits: [n, columns].
        stored: [n, columns], or fewer: tasks may have come since.
    """
    if not isinstance(network, TaskNetwork):
        return F.mse_loss(logits, stored)
    own = logits.detach() != MASK
    wider = F.pad(stored, (0, logits.shape[1] - stored.shape[1]))
    return F.mse_loss(logits[own], wider[own])
