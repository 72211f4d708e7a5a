"""Common base of test-time methods: a classifier that adapts and can be reset."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import TypeVar

from clgym.errors import BadBatch, Incompatible
from clgym.strategy import Batch, Config, Needs, Strategy, StreamInfo

__all__ = [
    "AdaptConfig",
    "AdaptStrategy",
    "make_optimizer",
    "move_average",
    "symmetric_cross_entropy",
    "weights_and_biases",
]

__path__: list[str] = []  # makes Python search for `clgym.adaptation.strategy`, see `clgym._moved`


@dataclass(frozen=True)
class AdaptConfig(Config):
    """Options of every test-time method."""

    model: str = "auto"
    """Classifier to adapt: NETWORK@FILE, the folder of a finished run, or auto: a small classifier
    that clgym trains on the source."""
    predict: Literal["before", "after"] = "before"
    """Predictions that are scored: before (those before the update on the batch), or after (those
    of a further forward pass after the update).
    """
    window: Annotated[int, Ge(2)] = 64
    """For streams with batch size 1: number of most recent images that form the batch."""


C = TypeVar("C", bound=AdaptConfig, default=Any)


class AdaptStrategy(Strategy[C]):
    """A classifier that predicts and adapts batch by batch.

    A method overrides `prepare` and `step`, and also `answer` if its prediction is not a plain
    forward pass. Its attributes are its state, which is saved, restored and reset as a whole.
    """

    Config: ClassVar[type] = AdaptConfig
    transient = ("_start",)
    batch_matters: ClassVar[bool] = True
    """Whether an image's prediction depends on the other images of its batch."""

    @property
    def needs(self) -> Needs:
        """A classifier, on an adaptation stream."""
        return Needs(settings=("adaptation",), classifier=self.config.model)

    def setup(self, info: StreamInfo) -> None:
        """Take the classifier, prepare it, and keep the state for `reset`.

        Raises:
            Incompatible: The stream provides no classifier.
        """
        super().setup(info)
        if info.classifier is None:
            raise Incompatible(
                expected="a stream that provides a classifier to adapt",
                found=f"a {info.setting} stream",
                fix="Use an adaptation scenario (`clgym list scenarios`)",
            )
        self.model = info.classifier.eval().requires_grad_(False)
        self._recent = torch.zeros(0, *info.image_shape, device=info.device)
        self._singles = 0
        self.prepare()
        self._start = copy.deepcopy(self.state_dict())

    def prepare(self) -> None:
        """Set ``self.model``, which is frozen and in evaluation mode, to the mode for adapting."""

    def step(self, images: Tensor) -> Tensor:
        """Predict a batch and learn from it: images [n, C, H, W] to logits [n, columns]."""
        with torch.no_grad():
            return self.answer(images)

    def answer(self, images: Tensor) -> Tensor:
        """Predict a batch without changing any state."""
        return self.model(images)

    def adapt(self, batch: Batch) -> Tensor:
        """See `Strategy.adapt`.

        On a stream with batch size 1, each image is predicted together with the most recent ones;
        an update follows whenever all of these are new. A shorter rest at the end is used as it is.

        Raises:
            BadBatch: Images have another shape or values that are not finite, or are too few for
                batch statistics.
        """
        images = self._checked(batch)
        try:
            if self.batch_matters and self.info.batch_size == 1:
                return self._single(images)
            return self._stepped(images)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadBatch(
                expected="a batch from which this network can compute batch statistics",
                found=f"{len(images)} image, and a layer with one value per channel",
                fix="Give a --batch-size or --images that leaves no batch of one image",
            ) from error

    def _stepped(self, images: Tensor) -> Tensor:
        logits = self.step(images)
        if self.config.predict == "after":
            with torch.no_grad():
                logits = self.answer(images)
        return logits.detach()

    def _single(self, image: Tensor) -> Tensor:
        window = self.config.window
        self._recent = torch.cat([self._recent, image])[-window:]
        self._singles += 1
        if self._singles % window == 0:
            return self._stepped(self._recent)[-1:]
        with torch.no_grad():
            return self.answer(self._recent)[-1:]

    def _checked(self, batch: Batch) -> Tensor:
        images = batch.images
        shape = tuple(images.shape[1:])
        if shape != self.info.image_shape:
            raise BadBatch(
                expected=f"images of {self.info.image_shape} (channels, height, width)",
                found=str(shape),
                fix="Give --resize, or a stream of such images",
            )
        # A check of the values waits for a GPU; the gym's are known to be finite.
        if not batch.finite and not torch.isfinite(images).all():
            raise BadBatch(
                expected="finite pixels in [0, 1]",
                found="NaN or infinity",
                fix="Repair the images, since one such pixel makes the statistics of the whole "
                "batch useless",
            )
        return images

    def predict(self, batch: Batch) -> Tensor:
        """Return predictions without an update."""
        return self.answer(self._checked(batch))

    def reset(self) -> None:
        """Return to the state after `setup`."""
        self.load_state_dict(copy.deepcopy(self._start))


def make_optimizer(
    kind: Literal["adam", "sgd"], parameters: Sequence[Tensor], lr: float
) -> torch.optim.Optimizer:
    """Adam, or SGD with Nesterov momentum 0.9; no weight decay, as is usual in this field."""
    if kind == "adam":
        return torch.optim.Adam(parameters, lr)
    return torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True)


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Every parameter: average = momentum * average + (1 - momentum) * network's."""
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.mul_(momentum).add_(value, alpha=1 - momentum)


def weights_and_biases(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters whose own name is weight or bias, which excludes tokens and embeddings."""
    named = network.named_parameters()
    return {name: value for name, value in named if name.rpartition(".")[2] in ("weight", "bias")}


def symmetric_cross_entropy(a: Tensor, b: Tensor) -> Tensor:
    """- 1/2 sum p_b log p_a - 1/2 sum p_a log p_b, p = softmax; logits [n, K] to [n]."""
    log_a, log_b = a.log_softmax(1), b.log_softmax(1)
    return -0.5 * (log_b.exp() * log_a + log_a.exp() * log_b).sum(1)
