"""Any clgym strategy as an Avalanche strategy, for scripts written for Avalanche."""

from typing import Any

import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.evaluation import default_evaluator
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from clgym.data.generators import seed_generators
from clgym.data.memory import Memory
from clgym.errors import Incompatible
from clgym.scenario import Setting
from clgym.strategy import Batch, Experience, Strategy, StreamInfo

__all__ = ["StrategyTemplate", "as_template"]


def as_template(
    strategy: Strategy,
    *,
    setting: Setting = "class-incremental",
    seed: int = 0,
    device: str | torch.device = "cpu",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    eval_mb_size: int = 128,
    evaluator: Any = default_evaluator,
    plugins: list[Any] | None = None,
) -> "StrategyTemplate":
    """Hand a strategy to an Avalanche script: ``train(experience)`` and ``eval(stream)`` work.

    The strategy gets what it gets in the gym: columns in order of arrival, no test labels, the task
    id in task-incremental streams only. Plugins and metrics of the script hear of experiences and
    of evaluation; the strategy's training loop is its own.

    Args:
        strategy: A fresh one, not set up yet.
        setting: What the benchmark is; it decides whether task ids are given.
        seed: The learner's.
        device: Where to train.
        mean: Per channel of the images, as `StreamInfo` has it; empty if unknown.
        std: Per channel of the images.
        eval_mb_size: Images a batch in evaluation.
        evaluator: Avalanche's metrics and loggers.
        plugins: Avalanche plugins.

    Raises:
        Incompatible: the strategy does not work in this setting.
    """
    _check(strategy, setting)
    return StrategyTemplate(
        strategy=strategy,
        setting=setting,
        seed=seed,
        normalisation=(mean, std),
        device=device,
        eval_mb_size=eval_mb_size,
        evaluator=evaluator,
        plugins=plugins,
    )


def _check(strategy: Strategy, setting: str) -> None:
    needs = strategy.needs
    if setting not in needs.settings or (needs.task_ids and setting != "task-incremental"):
        raise Incompatible(
            expected=f"one of {', '.join(needs.settings)}"
            + (" with task ids" if needs.task_ids else ""),
            found=setting,
            fix="Use another strategy or another benchmark",
        )


class StrategyTemplate(SupervisedTemplate):
    """Avalanche's template around a clgym strategy; made by `as_template`."""

    def __init__(
        self,
        *,
        strategy: Strategy,
        setting: Setting,
        seed: int,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        **options: Any,
    ) -> None:
        """Wrap; the strategy is set up with the first experience."""
        if options["evaluator"] is None:
            options["evaluator"] = EvaluationPlugin(loggers=[])
        nothing: Any = None  # there is no optimizer out here
        super().__init__(model=nn.Module(), optimizer=nothing, **options)
        self.strategy, self._seed = strategy, seed
        self._setting: Setting = setting
        self._normalisation = normalisation
        self._memory = Memory(strategy.needs.memory)
        self._order: list[int] = []
        self._past: list[tuple[Tensor, Tensor]] = []
        self._trained = 0

    def make_optimizer(self, *args: Any, **kwargs: Any) -> None:
        """None: the strategy has its own."""

    def model_adaptation(self, model: nn.Module | None = None) -> nn.Module:
        """Nothing: the strategy's network is not Avalanche's to change."""
        return self.model if model is None else model

    def make_train_dataloader(self, *args: Any, **kwargs: Any) -> None:
        """None: the strategy gets tensors."""
        self.dataloader = []

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        images, targets, task = self._tensors(self.adapted_dataset)
        if self._trained == 0:
            self._set_up(images, experience)
        seed_generators(self._seed, "train", experience=self._trained)  # as in the gym
        self._order += [c for c in _classes(experience) if c not in self._order]
        place = torch.full((max(self._order) + 1,), -1)
        place[self._order] = torch.arange(len(self._order))
        labels = place[targets].to(self.device)
        if self.strategy.needs.past_data:
            self._past.append((images, labels))
            images, labels = (torch.cat(parts) for parts in zip(*self._past, strict=True))
        own = Experience(
            self._trained,
            images,
            labels,
            classes=tuple(labels.unique().tolist()),
            columns=len(self._order),
            seed=self._seed,
            scale=1.0,
            task=task if self._setting == "task-incremental" else None,
        )
        try:
            self.strategy.train(own)
        finally:
            own.close()
        self._trained += 1

    def _tensors(self, dataset: Any) -> tuple[Tensor, Tensor, int]:
        samples = [dataset[row] for row in range(len(dataset))]
        images = torch.stack([sample[0] for sample in samples]).to(self.device)
        task = int(samples[0][2]) if len(samples[0]) > 2 else 0
        return images, torch.tensor([int(sample[1]) for sample in samples]), task

    def _set_up(self, images: Tensor, experience: Any) -> None:
        known = self.strategy.needs.total_classes or self._setting == "domain-incremental"
        info = StreamInfo(
            image_shape=tuple(images.shape[1:]),  # type: ignore[arg-type]
            setting=self._setting,
            device=self.device,
            seed=self._seed,
            mean=self._normalisation[0],
            std=self._normalisation[1],
            total_columns=len(_all_classes(experience)) if known else None,
            total_experiences=len(experience.origin_stream)
            if self.strategy.needs.total_experiences
            else None,
            memory=self._memory,
        )
        seed_generators(self._seed, "setup")
        self.strategy.setup(info)

    def forward(self) -> Tensor:
        """The strategy's logits, by Avalanche's class numbers; classes not seen get the least."""
        mbatch: Any = self.mbatch
        images, targets = mbatch[0], mbatch[1]
        task = int(mbatch[-1][0]) if self._setting == "task-incremental" else None
        with torch.random.fork_rng():
            logits = self.strategy.predict(Batch(images, task=task))
        width = 1 + max(*self._order, int(targets.max()))
        answer = logits.new_full((len(images), width), torch.finfo(logits.dtype).min)
        answer[:, self._order] = logits[:, : len(self._order)]
        return answer


def _classes(experience: Any) -> list[int]:
    return sorted(int(c) for c in experience.dataset.targets.uniques)


def _all_classes(experience: Any) -> set[int]:
    """Classes of the whole stream, for strategies that declare that they must know their number."""
    return {c for step in experience.origin_stream for c in _classes(step)}
