"""A continual learner, then a test-time method: the network that --base learned, --method adapts.

For streams that teach classes one group after another and then bring corrupted images without
labels. While there are labels the base learns and answers, as by itself; with the first unlabelled
batch a copy of its network goes to the method, which learns from the batches and answers. What was
learned from is out of reach by then: methods that want source data have to do without
(``--method rmt`` cannot, ``--method eata --method.fisher 0`` can). ``--method source`` adapts
nothing and shows what the shift costs.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from clgym.adaptation import AdaptStrategy
from clgym.config import Wrapped
from clgym.errors import Incompatible
from clgym.learner.adaptation import PassCounter
from clgym.models.networks import Classifier
from clgym.strategy import Batch, Config, Experience, Needs, Strategy, StreamInfo


@dataclass(frozen=True)
class LearnThenAdaptConfig(Config):
    """Options of `LearnThenAdapt`; those of both parts follow as base.OPTION and method.OPTION."""

    base: Wrapped = Wrapped("replay")
    """Learner that answers by one network: naive, replay, derpp, avalanche:EWC, ..."""
    method: Wrapped = Wrapped("tent")
    """Test-time method."""


class LearnThenAdapt(Strategy[LearnThenAdaptConfig]):
    """Hands what one strategy learned to another that adapts it."""

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {"base": "naive", "method": "lame"}

    def __init__(self, config: LearnThenAdaptConfig) -> None:
        """Take both parts from the config."""
        super().__init__(config)
        self.base: Strategy = config.base.make()
        self._method: Strategy | None = None
        self._passes: PassCounter | None = None

    @property
    def needs(self) -> Needs:
        """What the base needs, on streams of either kind that it can learn on."""
        return replace(self.base.needs, settings=("class-incremental", "learn-then-shift"))

    def setup(self, info: StreamInfo) -> None:
        """Set the base up; called once for each phase.

        Raises:
            Incompatible: parts that do not go together.
        """
        super().setup(info)
        self._check()
        self.base.setup(self._learning(info))
        if not isinstance(self._network(), Classifier):
            raise Incompatible(
                expected="a base that trains one network, which the method can adapt",
                found=repr(self.config.base.name),
                fix="Give --base naive, replay, derpp or another that does",
            )
        self._started()  # a network that the method cannot adapt is refused before it is trained
        self._passes = None

    def _learning(self, info: StreamInfo) -> StreamInfo:
        """What the base is told, the same in both phases."""
        total = info.total_columns if self.base.needs.total_classes else None
        over = info.setting == "adaptation"  # a stream that shows each image once, to the method
        return replace(
            info,
            setting="class-incremental",
            batch_size=None,
            total_columns=total,
            single_pass=info.single_pass and not over,
        )

    def _check(self) -> None:
        """Refuse parts that do not go together, before any work."""
        base, method = self.config.base, self.config.method
        if "class-incremental" not in self.base.needs.settings or self.base.needs.task_ids:
            raise Incompatible(
                expected="a base that learns class-incremental streams",
                found=repr(base.name),
                fix="Give --base another strategy, such as replay",
            )
        adapting = method.make()
        if not isinstance(adapting, AdaptStrategy) or adapting.config.model != "auto":
            raise Incompatible(
                expected="a test-time method, on the classifier that the base learned",
                found=repr(method.name),
                fix="Give --method source, bn-1, tent, lame or cotta, and no --method.model",
            )
        if adapting.needs.memory:
            raise Incompatible(
                expected="a method without a memory: the memory of such a run is the base's",
                found=repr(method.name),
                fix="Train the base in a run of its own, and adapt that with --model FOLDER",
            )
        if adapting.needs.source_data:
            raise Incompatible(
                expected="a method that needs no source data, which are out of reach by then",
                found=repr(method.name),
                fix="Take its source-free options, or --method tent, lame or cotta",
            )

    def _network(self) -> Any:
        """The base's network; that of a base which wraps another is the other's."""
        inner = getattr(self.base, "base", self.base)
        return getattr(self.base, "network", None) or getattr(inner, "network", None)

    def train(self, experience: Experience) -> None:
        """Train the base."""
        self.base.train(experience)

    def predict(self, batch: Batch) -> Tensor:
        """The answer of whoever is at work."""
        return (self._method or self.base).predict(batch)

    def adapt(self, batch: Batch) -> Tensor:
        """Answer and adapt; the first batch of all hands the network over.

        Raises:
            Incompatible: the base does not answer by its network alone.
        """
        if self._method is None:
            self._check_answers(batch)
            self._method = self._started()
        return self._method.adapt(batch)

    @torch.no_grad()
    def _check_answers(self, batch: Batch) -> None:
        answer = self.base.predict(batch)
        logits = self._network().eval()(batch.images)[:, : answer.shape[1]]
        if logits.shape != answer.shape or not torch.allclose(logits, answer, atol=1e-5):
            raise Incompatible(
                expected="a base that answers by its network alone, which the method adapts",
                found=f"{self.config.base.name!r}, whose answers are others",
                fix="Give --base naive, replay, derpp or another that does",
            )

    def _started(self) -> Strategy:
        """The method on a copy of what was learned."""
        classifier = copy.deepcopy(self._network())
        self._passes = PassCounter(classifier.backbone)
        method: Strategy = self.config.method.make()
        method.setup(replace(self.info, setting="adaptation", classifier=classifier))
        self.confidence_scale = method.confidence_scale
        return method

    def remake(self, name: str) -> object | None:
        """The method at work, which a saved state fills, and the count of its passes."""
        return self._started() if name == "_method" else self._passes

    def reset(self) -> None:
        """Forget what the method learned."""
        if self._method is not None:
            self._method.reset()

    def _sums(self) -> tuple[int, int]:
        """Images that went through the method's networks, forward and backward."""
        passes = self._passes
        return (0, 0) if passes is None else (passes.forward, passes.backward)

    def costs(self) -> dict[str, float]:
        """The base's and the method's, and the images that went through the method's networks."""
        forward, backward = self._sums()
        passes = {"adapt_forward_images": forward, "adapt_backward_images": backward}
        method = {} if self._method is None else self._method.costs()
        return {**self.base.costs(), **method, **(passes if forward else {})}
