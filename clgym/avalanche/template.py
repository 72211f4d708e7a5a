"""Any clgym strategy as an Avalanche strategy, for scripts written for Avalanche.

With ``stream=`` the strategy gets what the gym gives it on that stream, and predictions are scored
by the same rules: the accuracies of the script are those of ``clgym run``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from clgym.data.generators import seed_generators, untouched_generators
from clgym.data.memory import Memory
from clgym.data.sources import Source, load_source
from clgym.data.to_device import to_device
from clgym.data.words import class_words
from clgym.errors import BadConfig, Incompatible
from clgym.scenario import Setting, Stream, kind_of
from clgym.strategy import Batch, Experience, Strategy, StreamInfo

__all__ = ["StrategyTemplate", "as_template"]

_LABELLED = ("class-incremental", "task-incremental", "domain-incremental")
_GYM_BATCH = 256
"""Test images per batch in the gym."""


def as_template(
    strategy: Strategy,
    *,
    stream: Stream | None = None,
    setting: Setting | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    single_pass: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    data_root: Path | None = None,
    eval_mb_size: int = _GYM_BATCH,
    evaluator: Any = default_evaluator,
    plugins: list[Any] | None = None,
) -> "StrategyTemplate":
    """Hand a strategy to an Avalanche script: ``train(experience)`` and ``eval(stream)`` work.

    The strategy gets what it gets in the gym: classes numbered in order of arrival, no test labels,
    the task id in task-incremental streams only. Plugins and metrics of the script are called
    around experiences and in evaluation, but not within training, for which the strategy has its
    own loop.

    Args:
        strategy: A fresh one, not set up yet.
        stream: The stream whose ``benchmark()`` the script reads. Scenario type, mean, std, single
            pass and the classes that compete are those of the stream, and what the script trains
            on is compared with the plan.
        setting: Scenario type of a benchmark that is no stream of clgym; class-incremental if left
            out.
        mean: Mean of each channel of such a benchmark's images; ``()`` where its transforms
            normalise them already.
        std: Standard deviation of each channel, or ``()``.
        single_pass: Whether each training image of such a benchmark may be read only once.
        seed: Seed of the learner.
        device: Device of the learner.
        data_root: Folder of the stream's sources; None means ``CLGYM_DATA``, else the user's data
            folder.
        eval_mb_size: Images per batch in evaluation.
        evaluator: Avalanche's metrics and loggers.
        plugins: Avalanche plugins.

    Raises:
        BadConfig: Both a stream and facts that it determines are given, or neither.
        Incompatible: The strategy does not support this scenario type.
    """
    facts = _facts(stream, data_root, setting, mean, std, single_pass)
    _check(strategy, facts.setting)
    return StrategyTemplate(
        strategy=strategy,
        facts=facts,
        seed=seed,
        device=device,
        eval_mb_size=eval_mb_size,
        evaluator=evaluator,
        plugins=plugins,
    )


@dataclass(frozen=True, eq=False)
class _Facts:
    """Facts about a benchmark that a learner may know before it begins."""

    setting: Setting
    mean: tuple[float, ...]
    std: tuple[float, ...]
    single_pass: bool
    plan: Stream | None = None
    sources: tuple[Source, ...] = ()

    @property
    def scale(self) -> float | None:
        """Factor from stored pixels to [0, 1]; None where images come as floats only."""
        return 1.0 / max(s.max_value for s in self.sources) if self.sources else None

    def competing(self, task: int, classes: Sequence[int], seen: int) -> Sequence[int]:
        """Class indices that compete in an answer to an image of a task, as in the gym."""
        if self.plan is None:
            return classes
        step = self.plan.steps[task]
        own = step.classes if step.home is None else step.home
        return range(seen) if self.plan.compete == "seen" else own

    def stored(self, images: Tensor, labels: Tensor, index: int) -> Tensor:
        """Pixels as they are stored, uint8 [n, C, H, W], of an experience of the plan.

        Raises:
            Incompatible: Images or labels are not those of the plan.
        """
        assert self.plan is not None and self.scale is not None
        found = f"{len(labels)} images in experience {index}"
        if index < len(self.plan):
            step = self.plan.steps[index]
            wanted = self.plan.training_labels(step, self.sources[step.source])
            pixels = (images / self.scale).round().clamp(0, 255).byte()
            same = torch.equal(pixels.float().mul_(self.scale), images)
            if same and np.array_equal(wanted, labels.numpy()):
                return pixels
            found += ", other ones than the plan's" + ("" if same else ", or transformed")
        raise Incompatible(
            expected=f"the experiences of {self.plan.name} in their order",
            found=found,
            fix="Train on stream.benchmark().train_stream from its beginning, or give mean, std "
            "and setting in place of the stream",
        )


def _facts(
    stream: Stream | None,
    data_root: Path | None,
    setting: Setting | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    single_pass: bool,
) -> _Facts:
    """Facts of a stream, or those that are given in its place; see `as_template`."""
    if stream is not None:
        given = {"setting": setting, "mean": mean, "std": std, "single_pass": single_pass or None}
        _refuse_both([name for name, value in given.items() if value is not None])
        return _facts_of(stream, data_root)
    if mean is None or std is None:
        raise BadConfig(
            expected="stream=, or mean= and std= of the benchmark's images",
            found="neither",
            fix="Give the stream that made the benchmark; mean=() and std=() for images that "
            "are normalised already",
        )
    return _Facts(setting or "class-incremental", tuple(mean), tuple(std), single_pass)


def _facts_of(stream: Stream, data_root: Path | None) -> _Facts:
    kind = kind_of(stream)
    if kind not in _LABELLED:
        raise Incompatible(
            expected="a learning stream, for an Avalanche script",
            found=f"{stream.name}, a stream of the kind {kind}",
            fix="Use a scenario whose experiences bring labels",
        )
    sources = tuple(load_source(name, data_root) for name in stream.sources)
    mean, std = sources[0].statistics(stream.image_shape[0])
    return _Facts(stream.setting, mean, std, stream.single_pass, stream, sources)


def _refuse_both(stated: Sequence[str]) -> None:
    if stated:
        raise BadConfig(
            expected="stream= alone: scenario type, mean and std come from the stream",
            found=f"{', '.join(f'{name}=' for name in stated)} as well",
            fix="Remove them, or give no stream",
        )


def _check(strategy: Strategy, setting: str) -> None:
    needs = strategy.needs
    if setting not in {*needs.settings} & {*_LABELLED} or (
        needs.task_ids and setting != "task-incremental"
    ):
        raise Incompatible(
            expected=f"one of {', '.join(needs.settings)}"
            + (" with task ids" if needs.task_ids else ""),
            found=setting,
            fix="Use another strategy or another benchmark",
        )
    if needs.images is not None:
        raise Incompatible(
            expected="a strategy without images of another source, which only the gym hands out",
            found=f"images of {needs.images.source}",
            fix="Leave out the option that names the source, or use `clgym run`",
        )


class StrategyTemplate(SupervisedTemplate):
    """Avalanche's template around a clgym strategy; made by `as_template`."""

    def __init__(self, *, strategy: Strategy, facts: _Facts, seed: int, **options: Any) -> None:
        """Wrap; the strategy is set up with the first experience."""
        if options["evaluator"] is None:
            options["evaluator"] = EvaluationPlugin(loggers=[])
        nothing: Any = None  # there is no optimizer out here
        super().__init__(model=nn.Module(), optimizer=nothing, **options)
        self.strategy, self._facts, self._seed = strategy, facts, seed
        self._memory = Memory(strategy.needs.memory)
        self._order: list[int] = []
        self._tasks: dict[int, tuple[int, ...]] = {}
        self._past: list[tuple[Tensor, Tensor]] = []
        self._trained = 0

    def make_optimizer(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the strategy has its own optimizer."""

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Return the model unchanged: Avalanche must not change the strategy's network."""
        return self.model if model is None else model

    def make_train_dataloader(self, *args: Any, **kwargs: Any) -> None:
        """Make an empty loader, since the strategy gets tensors."""
        self.dataloader = []

    @property
    def _gives_tasks(self) -> bool:
        return self._facts.setting == "task-incremental"

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        images, targets, task = self._tensors(self.adapted_dataset)
        scale = 1.0
        if self._facts.scale is not None:
            images = self._facts.stored(images, targets, self._trained)
            scale = self._facts.scale
        images = to_device(images, self.device)
        if self._trained == 0:
            self._set_up(images, experience)
        seed_generators(self._seed, "train", experience=self._trained)  # as in the gym
        labels = to_device(self._numbered(targets, experience), self.device)
        classes = tuple(labels.unique().tolist())
        if self._gives_tasks:
            self._tasks[task] = tuple(sorted({*self._tasks.get(task, ()), *classes}))
        if self.strategy.needs.past_data:
            self._past.append((images, labels))
            images, labels = (torch.cat(parts) for parts in zip(*self._past, strict=True))
            classes = tuple(labels.unique().tolist())
        own = Experience(
            self._trained,
            images,
            labels,
            classes=classes,
            columns=len(self._order),
            seed=self._seed,
            scale=scale,
            task=list(self._tasks).index(task) if self._gives_tasks else None,
            task_columns=tuple(self._tasks.values()),
            single_pass=self._facts.single_pass,
            class_names=self._class_names(),
        )
        try:
            self.strategy.train(own)
        finally:
            own.close()
        self._trained += 1

    def _class_names(self) -> tuple[str, ...]:
        """Names of the classes seen, as in the gym; none where the benchmark's are unknown."""
        plan = self._facts.plan
        if plan is None or not self.strategy.needs.class_names:
            return ()
        return (class_words(plan.class_order) or ())[: len(self._order)]

    def _numbered(self, targets: Tensor, experience: Any) -> Tensor:
        """Class indices, in order of arrival, of Avalanche's class numbers."""
        self._order += [c for c in _classes(experience) if c not in self._order]
        place = torch.full((max(self._order) + 1,), -1)
        place[self._order] = torch.arange(len(self._order))
        return place[targets]

    def _tensors(self, dataset: Any) -> tuple[Tensor, Tensor, int]:
        samples = [dataset[row] for row in range(len(dataset))]
        task = int(samples[0][2]) if len(samples[0]) > 2 else 0
        labels = torch.tensor([int(sample[1]) for sample in samples])
        return torch.stack([sample[0] for sample in samples]), labels, task

    def _set_up(self, images: Tensor, experience: Any) -> None:
        facts = self._facts
        info = StreamInfo(
            image_shape=tuple(images.shape[1:]),  # type: ignore[arg-type]
            setting=facts.setting,
            device=self.device,
            seed=self._seed,
            mean=facts.mean,
            std=facts.std,
            single_pass=facts.single_pass,
            memory=self._memory,
        )
        if self.strategy.needs.total_classes or facts.setting == "domain-incremental":
            plan = facts.plan
            total = len(_all_classes(experience)) if plan is None else len(plan.class_order)
            info = replace(info, total_columns=total)
        if self.strategy.needs.total_experiences:
            info = replace(info, total_experiences=len(experience.origin_stream))
        seed_generators(self._seed, "setup")
        self.strategy.setup(info)

    def forward(self) -> Tensor:
        """The strategy's logits, by Avalanche's class numbers.

        Classes that do not compete get the lowest finite number: those not seen and, where the task
        is given, those of other tasks. The prediction for an image of a task that has not come yet
        is the lowest class index.
        """
        mbatch: Any = self.mbatch
        images, targets, tasks = mbatch[0], mbatch[1], mbatch[-1]
        if not self._gives_tasks:
            logits = self._logits(images, None)
        else:
            logits = images.new_zeros(len(images), len(self._order))
            for task in tasks.unique().tolist():
                if task in self._tasks:
                    logits[tasks == task] = self._logits(images[tasks == task], task)
        width = 1 + max(*self._order, int(targets.max()))
        answer = logits.new_full((len(images), width), torch.finfo(logits.dtype).min)
        answer[:, self._order] = logits
        return answer

    def _logits(self, images: Tensor, task: int | None) -> Tensor:
        """Logits float32 [n, classes seen] of images of one task."""
        seen = len(self._order)
        number = None if task is None else list(self._tasks).index(task)
        with untouched_generators(self.device):
            logits = self.strategy.predict(Batch(images, task=number))[:, :seen].float()
        if number is None or task is None:
            return logits
        competing = self._facts.competing(number, self._tasks[task], seen)
        own = [index for index in competing if index < seen]
        masked = torch.full_like(logits, torch.finfo(logits.dtype).min)
        masked[:, own] = logits[:, own]
        return masked


def _classes(experience: Any) -> list[int]:
    return sorted(int(c) for c in experience.dataset.targets.uniques)


def _all_classes(experience: Any) -> set[int]:
    """Classes of the whole stream, for strategies that declare that they must know their number."""
    return {c for step in experience.origin_stream for c in _classes(step)}
