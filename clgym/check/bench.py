"""One strategy on one tiny stream in this process, driven by the gym's own code."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from clgym import config as configs
from clgym.check.adapting import AdaptBench
from clgym.check.report import Failed
from clgym.check.simulator import Simulator
from clgym.check.tiny import Tiny
from clgym.config import Field
from clgym.errors import MissingData
from clgym.gym.conversation import OnEvent
from clgym.gym.request import Request
from clgym.learner.assembly import config_fields, make_strategy
from clgym.strategy import Strategy

__all__ = ["NAME", "Subject", "quiet_torch"]

NAME = "checked"
"""Name of the strategy in the registry while it is checked."""

_SMALL = {"batch_size": 8, "epochs": 2, "memory_size": 10}
"""Options for the checks, also of a wrapped strategy, unless CHECK_CONFIG sets them."""

_STREAMS: dict[str, dict[str, object]] = {
    "class-incremental": {"increments": [2]},
    "domain-incremental": {"domains": 3},
    "task-incremental": {"increments": [2]},
    "pretraining": {"increment": 2},
    "adaptation": {"corruptions": "contrast,gaussian-noise", "batch_size": 8},
}
"""Scenarios for the checks, with options; the first one that the strategy supports is used."""


class Subject:
    """A strategy under check: starts learners for it and keeps what several checks need.

    Attributes:
        cls: The strategy's class.
        name: Name of the strategy in messages.
        summary: First line of its file's docstring.
        plugins: Files of strategies that it wraps.
        config: Its options for the checks, those of wrapped strategies under dotted names.
        fields: All its options, those of wrapped strategies included.
    """

    def __init__(
        self,
        cls: type[Strategy],
        name: str,
        summary: str,
        plugins: Sequence[Path],
        folder: Path,
        config: Mapping[str, object] = MappingProxyType({}),
        setting: str | None = None,
    ) -> None:
        """Resolve the options that the checks use; files go to ``folder``.

        Args:
            cls: The strategy's class.
            name: Name of the strategy in messages.
            summary: First line of its file's docstring.
            plugins: Files of strategies that it wraps.
            folder: Folder to which runs are written.
            config: Options that replace those of the checks.
            setting: Scenario type; None takes the first that the strategy works in.
        """
        self.cls, self.name, self.summary, self.plugins = cls, name, summary, tuple(plugins)
        self._folder, self._tiny = folder, Tiny(folder, cls.CHECK_IMAGES)
        self._count = 0
        self._setting = setting
        given = {**cls.CHECK_CONFIG, **config}
        self.fields: list[Field] = config_fields(cls, given, [str(p) for p in plugins])
        small = {f.name: _SMALL[k] for f in self.fields if (k := f.name.split(".")[-1]) in _SMALL}
        self.config = configs.resolve(self.fields, {**small, **given}, name)

    def make(self) -> Strategy:
        """Return the strategy with the checks' options, before `setup`."""
        return make_strategy(NAME, self.config, [str(p) for p in self.plugins])

    @cached_property
    def setting(self) -> str:
        """Scenario type of the stream on which the strategy is checked."""
        if self._setting is not None:
            return self._setting
        needs = self.make().needs
        fit = [k for k in _STREAMS if k in needs.settings]
        return "task-incremental" if needs.task_ids or not fit else fit[0]

    @property
    def answering(self) -> str:
        """Name of the hook that predicts test images."""
        if self.adapts:
            return "adapt"
        return "represent" if self.setting == "pretraining" else "predict"

    @property
    def adapts(self) -> bool:
        """Whether the strategy learns at test time, so that some checks do not apply."""
        return self.setting == "adaptation"

    def bench(
        self,
        *,
        seed: int = 0,
        device: str = "cpu",
        train: Sequence[int] | int = 8,
        test: int = 4,
        out: Path | None = None,
        saving: bool = False,
        on_event: OnEvent = lambda event: None,
    ) -> Any:
        """Start a fresh learner, or continue the run that was begun in ``out``.

        Args:
            seed: Seed of the learner.
            device: Device of the learner.
            train: Number of training images of every class, or of each of the six.
            test: Number of test images of every class.
            out: Folder of the run; None means a fresh one.
            saving: Whether the state is saved at every safe point.
            on_event: Called with the run's events.

        Returns:
            A `Simulator`; for a strategy that learns at test time an `AdaptBench`.
        """
        request = Request(
            strategy=NAME,
            scenario="corruptions" if self.adapts else self.setting,
            source=self._tiny.name(train, test),
            strategy_config=self.config,
            scenario_config=_STREAMS[self.setting],
            seed=seed,
            device=device,
            threads=1,
            out=out or self.folder(),
            plugins=self.plugins,
            checkpoint_minutes=0.0 if saving else 1e6,
        )
        try:
            return (AdaptBench if self.adapts else Simulator)(request, on_event)
        except MissingData as error:
            # The images exist, so weights are missing: most likely those of a default.
            raise Failed(
                f"expected {error.expected}; found {error.found}", self._small_network()
            ) from error

    def _small_network(self) -> str:
        """Fix that lets the strategy's checks run without weights."""
        options = {"backbone": "test_resnet@random", "image_size": 32}
        own = {f.name: options[f.name] for f in self.fields if f.name in options} or options
        return f"Write CHECK_CONFIG = {own} into the class: a small network with random weights"

    def folder(self) -> Path:
        """A fresh folder."""
        self._count += 1
        return self._folder / f"run-{self._count}"

    @cached_property
    def baseline(self) -> list[np.ndarray]:
        """Predictions after every experience of an undisturbed run with seed 0."""
        return self.bench().whole()

    @cached_property
    def trained(self) -> Any:
        """A learner that has learned something; checks do not change it."""
        bench = self.bench()
        if self.adapts:
            bench.whole()
        else:
            bench.train(0)
            bench.train(1)
        return bench


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Use one thread and deterministic algorithms in the block; restore the old values then."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn)
