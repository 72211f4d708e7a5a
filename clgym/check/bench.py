"""One strategy on one tiny stream in this process, driven by the gym's own code."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clgym import config as configs
from clgym.check.adapting import ORDER_KEY, AdaptBench
from clgym.check.report import Failed
from clgym.check.solo import SoloLearners
from clgym.check.tiny import Tiny
from clgym.config import Field
from clgym.engines.channel import Message
from clgym.errors import MissingData
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.run import make_session
from clgym.gym.scoring import TestPool, pool_after
from clgym.learner.assembly import config_fields, make_strategy
from clgym.learner.entrance import Learner
from clgym.messages import Predict, Predicted, Save, parse_event, parse_request, to_tree
from clgym.scenario import Stream
from clgym.strategy import Batch, Strategy

__all__ = ["NAME", "Bench", "ObservedLearner", "Subject", "quiet_torch"]

NAME = "checked"
"""Name of the strategy in the registry while it is checked."""

_SMALL = {"batch_size": 8, "epochs": 2, "memory_size": 10}
"""Options for the checks, also of a wrapped strategy, unless CHECK_CONFIG sets them."""

_STREAMS: dict[str, dict[str, object]] = {
    "class-incremental": {"increments": [2]},
    "domain-incremental": {"domains": 3},
    "task-incremental": {"increments": [2]},
    "adaptation": {"corruptions": "contrast,gaussian-noise", "batch_size": 8},
}
"""Scenarios for the checks, with options; the first one that the strategy supports is used."""


class ObservedLearner(Learner):
    """The learner's side, with its strategy and its batches in reach."""

    labels: Callable[[np.ndarray], torch.Tensor] | None = None
    """Function from rows to the labels that a test batch carries; None as in every run."""
    widths: list[tuple[int, ...]] | None = None
    """Place where the shapes of logits are recorded instead of being checked."""

    @property
    def strategy(self) -> Strategy:
        """The strategy at work."""
        return self._strategy

    def _test_batch(self, request: Predict, part: slice, features: torch.Tensor | None) -> Batch:
        batch = super()._test_batch(request, part, features)
        if self.labels is not None:
            vars(batch)["labels"] = self.labels(request.rows[part])  # a strategy may look for them
        return batch

    def _predict(self, request: Predict) -> Predicted:
        if self.widths is None:
            return super()._predict(request)
        with torch.no_grad():
            features = self._known_features(request)
            answer = self._strategy.predict(self._test_batch(request, slice(None), features))
        self.widths.append(tuple(answer.shape))
        logits = np.zeros((len(request.rows), request.num_seen_classes), np.float32)
        return Predicted(logits=logits, seconds=0.0)


class Bench:
    """A run that a check takes step by step.

    Attributes:
        probe: The learner's side.
        order: Function from a number of rows to their order; None leaves the gym's.
        batch_size: Rows a batch at prediction; None leaves the gym's.
    """

    enforced = "none"
    order: Callable[[int], np.ndarray] | None = None
    batch_size: int | None = None

    def __init__(self, request: Request, on_event: OnEvent) -> None:
        """Start the strategy, or continue the run whose files are in the request's folder."""
        self.probe = ObservedLearner(lambda event: on_event(parse_event(event)))
        self._resolved = resolve(request, self)
        self._conversation = Conversation(self, on_event)
        self._session = make_session(
            self._resolved, self._conversation, SoloLearners(self), on_event, ORDER_KEY
        )
        (phase,) = self._session.phases
        assert isinstance(phase, LearningPhase)
        self._phase = phase
        self._resolved.out.mkdir(parents=True, exist_ok=True)
        self._session.resume()
        self._session.begin(0)

    def ask(self, message: Message, on_event: Callable[[Message], None]) -> Message:
        """Be the channel: hand the message to the learner; its exceptions come through."""
        request = parse_request(message)
        if not isinstance(request, Predict):
            return self.probe.handle(message)
        count = len(request.rows)
        order = np.arange(count) if self.order is None else self.order(count)
        changed = replace(
            request,
            rows=request.rows[order],
            where=request.where[order],
            batch_size=self.batch_size or request.batch_size,
        )
        reply: Any = self.probe.handle(to_tree(changed))
        logits = np.empty_like(reply["logits"])
        logits[order] = reply["logits"]
        return {**reply, "logits": logits}

    def prepare(self, libraries: Iterable[int]) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to end."""

    @property
    def strategy(self) -> Strategy:
        """The strategy at work."""
        return self.probe.strategy

    @property
    def stream(self) -> Stream:
        """What it learns."""
        return self._resolved.stream

    def labels_of(self, rows: np.ndarray) -> torch.Tensor:
        """Class indices of test rows, int64 [n]."""
        (source,), (columns,) = self._resolved.sources, self.stream.columns
        return torch.from_numpy(np.array(columns)[source.test.labels[rows]])

    def train_images(self) -> np.ndarray:
        """All training images of the stream, uint8 [n, H, W, C]."""
        return np.asarray(self._resolved.sources[0].train.images)

    def train(self, index: int) -> None:
        """Train experience ``index``, from its beginning or where a killed run left it."""
        self._phase.carry_out(index)

    def pool(self, index: int) -> TestPool:
        """The test rows scored after experience ``index``."""
        return pool_after(self.stream, self._resolved.sources, index)

    def answers(self, index: int) -> np.ndarray:
        """Logits of those rows, float32 [n, classes], in the pool's order."""
        return self._phase.tester.predict(self._conversation, index, self.pool(index))[0]

    def save(self, index: int) -> None:
        """Save the boundary after experience ``index``."""
        self._session.save(0, index, started=time.perf_counter())

    def state(self) -> bytes:
        """The learner's whole state as it would be saved."""
        path = self._resolved.out / "now.safetensors"
        Conversation(self).save(Save(path=path))
        return path.read_bytes()

    def whole(self) -> list[np.ndarray]:
        """Train every experience, answer after each."""
        found = []
        for index in range(len(self.stream)):
            self.train(index)
            found.append(self.answers(index))
        return found


class Subject:
    """A strategy under check: makes benches for it and keeps what several checks need.

    Attributes:
        cls: The class.
        name: What it is called in messages.
        summary: First line of its file's docstring.
        plugins: Files that hold strategies which it wraps.
        config: Its options for the checks, flat.
        fields: All its options, those of wrapped strategies included.
    """

    def __init__(
        self, cls: type[Strategy], name: str, summary: str, plugins: Sequence[Path], folder: Path
    ) -> None:
        """Resolve the options that the checks use; files go to ``folder``."""
        self.cls, self.name, self.summary, self.plugins = cls, name, summary, tuple(plugins)
        self._folder, self._tiny = folder, Tiny(folder, cls.CHECK_IMAGES)
        self._count = 0
        given = dict(cls.CHECK_CONFIG)
        self.fields: list[Field] = config_fields(cls, given, [str(p) for p in plugins])
        small = {f.name: _SMALL[k] for f in self.fields if (k := f.name.split(".")[-1]) in _SMALL}
        self.config = configs.resolve(self.fields, {**small, **given}, name)

    def make(self) -> Strategy:
        """The strategy with the checks' options, not set up."""
        return make_strategy(NAME, self.config, [str(p) for p in self.plugins])

    @cached_property
    def setting(self) -> str:
        """The kind of stream it is checked on."""
        needs = self.make().needs
        fit = [k for k in _STREAMS if k in needs.settings]
        return "task-incremental" if needs.task_ids or not fit else fit[0]

    @property
    def adapts(self) -> bool:
        """Whether it learns at test time: some checks do not apply to it then."""
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
        """A fresh learner, started; in ``out`` the run that was begun there is continued.

        Args:
            seed: The learner's.
            device: Where it works.
            train: Training images of every class, or of each of the six.
            test: Test images of every class.
            out: Folder of the run; None means a fresh one.
            saving: Whether the state is saved at every safe point.
            on_event: Called with the run's events.

        Returns:
            A `Bench`; for a strategy that learns at test time an `AdaptBench`.
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
            return (AdaptBench if self.adapts else Bench)(request, on_event)
        except MissingData as error:
            # The images are at hand: it is weights that are missing, of a default most likely.
            raise Failed(
                f"expected {error.expected}; found {error.found}", self._small_network()
            ) from error

    def _small_network(self) -> str:
        """What to write into the class so that its checks need no weights."""
        options = {"backbone": "test_resnet@random", "image_size": 32}
        own = {f.name: options[f.name] for f in self.fields if f.name in options} or options
        return f"Write CHECK_CONFIG = {own} into the class: a small network with random weights"

    def folder(self) -> Path:
        """A fresh folder."""
        self._count += 1
        return self._folder / f"run-{self._count}"

    @cached_property
    def baseline(self) -> list[np.ndarray]:
        """Answers after every experience of an undisturbed run with seed 0."""
        return self.bench().whole()

    @cached_property
    def trained(self) -> Any:
        """A bench that has learned something; checks leave it as it is."""
        bench = self.bench()
        if self.adapts:
            bench.whole()
        else:
            bench.train(0)
            bench.train(1)
        return bench


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """One thread and deterministic algorithms inside; afterwards as it was."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warn)
