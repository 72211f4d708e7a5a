"""Shards of isolated parts: what a request touches is dropped, and nothing is trained again.

It follows the idea of S3T (Basu Roy Chowdhury et al., "Towards Scalable Exact Machine Unlearning
Using Parameter-Efficient Fine-Tuning", 2024, arXiv 2406.16257) and of the sharded, sliced training
before it (SISA, Bourtoule et al., IEEE S&P 2021, arXiv 1912.03817). It is no reproduction: there is
no specification behind it, and its numbers are not those of a paper.

* Experience k belongs to shard ``k mod shards``. A shard is a network of its own; the experiences
  of a shard are its slices, in the order of their arrival, which is the sequence.
* The first slice of a shard trains the shard's network and a head for its classes. Every later one
  trains a bottleneck layer, which is added to the features of the slice before, and a head; all
  that came before is frozen, running statistics too.
* The answer has the logits of every slice's head at the columns of its classes. Slices never saw
  each other's rows, so their logits were never compared in training: exactness costs accuracy.
* A request drops the slice of its rows and all that was trained after it in the same shard; a
  network whose first slice goes is drawn anew. What is left was never given the rows, bit for bit
  (a test holds it). Classes of dropped slices are not answered any more, those too that nobody
  asked to forget: with more shards than experiences a slice takes nobody along.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from clgym.avalanche import SGDStrategy
from clgym.avalanche.sgd import SGDConfig
from clgym.models import networks
from clgym.strategy import Batch, Experience, ForgetRequest, Needs

SPACE = {"lr": [0.01, 0.03, 0.1], "epochs": [1, 2, 4], "shards": [1, 2, 5]}


@dataclass(frozen=True)
class S3TConfig(SGDConfig):
    """Options of sharded training."""

    shards: Annotated[int, Ge(1)] = 2
    """Number of networks over which the experiences are dealt in turn."""
    bottleneck: Annotated[int, Ge(1)] = 32
    """Units of the layer that each slice but a shard's first adds to the features."""


class S3T(SGDStrategy[S3TConfig]):
    """A slice for each experience, in the shard of its turn.

    Attributes:
        dropped: Slices that requests have dropped so far.
    """

    network: Any

    @property
    def needs(self) -> Needs:
        """Classes that come once: a slice has those of its experience."""
        return Needs(settings=("class-incremental",))

    def make_network(self, columns: int) -> Any:
        """Shards without slices."""
        self.dropped = 0
        trunks = [self._trunk() for _ in range(self.config.shards)]
        return ShardedNetwork(trunks, self.config.bottleneck).to(self.info.device)

    def _trunk(self) -> networks.Classifier:
        """The network of a shard, without a head."""
        c, info = self.config, self.info
        trunk = networks.build(c.network, info.image_shape, 1, info.mean, info.std, c.hidden)
        return trunk.to(info.device)

    def begin(self, experience: Experience) -> None:
        """Add a slice."""
        self.network.add(experience.index, experience.classes)

    def train(self, experience: Experience) -> None:
        """Train the experience's slice, and nothing else."""
        self.network.activate(experience.index)  # where a run is continued, `begin` is not called
        super().train(experience)
        self.network.activate(None)

    def predict(self, batch: Batch) -> Tensor:
        """Logits of all slices, each at the columns of its classes."""
        if self.network.training:
            self.network.eval()
        return self.network(batch.images)[:, : self.seen]

    def forget(self, request: ForgetRequest) -> None:
        """Drop what the rows were trained in, and what was trained after it in its shard."""
        for part in request.forgotten:
            shard, gone = self.network.drop(part.index, request.classes)
            self.dropped += gone
            if gone and not self.network.sequence(shard):
                self.network.renew(shard, self._trunk())

    def costs(self) -> dict[str, float]:
        """Number of slices that requests have dropped."""
        return {"slices_dropped": float(self.dropped)} if self.dropped else {}


class Slice(nn.Module):
    """The part of one experience: a bottleneck layer, unless it is a shard's first, and a head."""

    def __init__(self, width: int, bottleneck: int, classes: tuple[int, ...]) -> None:
        """Draw fresh weights; the layer adds nothing at first.

        Args:
            width: Length of the features.
            bottleneck: Units of the layer; 0 for none.
            classes: Class indices of the experience.
        """
        super().__init__()
        self.classes, self.layer = classes, None
        if bottleneck:
            up = nn.Linear(bottleneck, width)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            self.layer = nn.Sequential(nn.Linear(width, bottleneck), nn.ReLU(), up)
        self.head = nn.Linear(width, len(classes))

    def features(self, features: Tensor) -> Tensor:
        """The features of the slice before, [n, width], with what this one adds."""
        return features if self.layer is None else features + self.layer(features)


class ShardedNetwork(nn.Module):
    """Networks of all shards with the slices on them.

    In training mode only the active slice answers; in evaluation mode all of them do.

    Attributes:
        slices: By the experience's number, in order of arrival.
        columns: Classes seen so far.
        forgotten: Class indices that requests have named.
    """

    def __init__(self, trunks: list[networks.Classifier], bottleneck: int) -> None:
        """Begin without slices.

        Args:
            trunks: A network for each shard, whose heads are not used.
            bottleneck: Units of a slice's layer.
        """
        super().__init__()
        self._widths = [trunk.head.in_features for trunk in trunks]
        self.trunks = nn.ModuleList(map(_headless, trunks))
        self.slices = nn.ModuleDict()
        self.columns, self._bottleneck = 0, bottleneck
        self.forgotten: list[int] = []
        self._active: int | None = None

    def shard_of(self, experience: int) -> int:
        """The shard to which an experience belongs."""
        return experience % len(self.trunks)

    def sequence(self, shard: int) -> list[int]:
        """Experiences whose slices a shard has, in order of arrival."""
        return sorted(int(k) for k in self.slices if self.shard_of(int(k)) == shard)

    def add(self, experience: int, classes: tuple[int, ...]) -> None:
        """Add a slice, and let it train."""
        self._put(experience, classes, first=not self.sequence(self.shard_of(experience)))
        self.columns = max(self.columns, 1 + max(classes))
        self.activate(experience)

    def _put(self, experience: int, classes: tuple[int, ...], first: bool) -> None:
        width = self._widths[self.shard_of(experience)]
        device = next(self.trunks.parameters()).device
        made = Slice(width, 0 if first else self._bottleneck, classes)
        self.slices[str(experience)] = made.to(device)

    def activate(self, experience: int | None) -> None:
        """Let gradients reach one slice alone, and its shard's network if it is the first there.

        An experience that has no slice is passed over.
        """
        known = experience is not None and str(experience) in self.slices
        self._active = experience if known else None
        self.requires_grad_(False)
        for module in self._trained():
            module.requires_grad_(True)

    def _trained(self) -> list[nn.Module]:
        if self._active is None:
            return []
        own, shard = self.slices[str(self._active)], self.shard_of(self._active)
        first = self.sequence(shard)[0] == self._active
        return [own, self.trunks[shard]] if first else [own]

    def train(self, mode: bool = True) -> "ShardedNetwork":
        """Training mode for what trains: what is frozen answers as it will at test time."""
        super().train(False)
        self.training = mode
        if mode:
            for module in self._trained():
                module.train()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, columns] of images in [0, 1]; those of classes without a slice are -inf.

        Without any slice the answer is uniform over the classes that nobody asked to forget.
        """
        answers = images.new_full((len(images), self.columns), -torch.inf)
        shards = range(len(self.trunks))
        if self.training and self._active is not None:
            shards = [self.shard_of(self._active)]
        for shard in shards:
            self._answer(shard, images, answers)
        if not self.slices:
            answers[:, [c for c in range(self.columns) if c not in self.forgotten]] = 0.0
        return answers

    def _answer(self, shard: int, images: Tensor, answers: Tensor) -> None:
        """Put the logits of a shard's slices at the columns of their classes."""
        if not (sequence := self.sequence(shard)):
            return
        trunk: Any = self.trunks[shard]
        features = trunk.features(images)
        for number in sequence:
            own: Any = self.slices[str(number)]
            features = own.features(features)
            if not self.training or number == self._active:
                answers[:, list(own.classes)] = own.head(features)

    def drop(self, experience: int, classes: tuple[int, ...]) -> tuple[int, int]:
        """Drop an experience's slice, and those after it in its shard.

        Args:
            experience: Its number.
            classes: Class indices that the request names.

        Returns:
            The shard, and the number of slices dropped.
        """
        self.forgotten = sorted({*self.forgotten, *classes})
        shard, known = self.shard_of(experience), str(experience) in self.slices
        gone = [k for k in self.sequence(shard) if k >= experience] if known else []
        for number in gone:
            del self.slices[str(number)]
        return shard, len(gone)

    def renew(self, shard: int, trunk: networks.Classifier) -> None:
        """Put another network in the place of a shard's."""
        self.trunks[shard] = _headless(trunk)

    def structure(self) -> list[Any]:
        """The slices and the number of classes; see `clgym.attributes`."""
        slices: list[Any] = []
        for number, own in self.slices.items():
            part: Any = own
            slices.append([int(number), list(part.classes), part.layer is None])
        return [self.columns, self.forgotten, slices]

    def restructure(self, structure: list[Any]) -> None:
        """Have the slices that a `structure` tells of; a state fills them."""
        self.columns, self.forgotten, slices = structure
        self.slices = nn.ModuleDict()
        for number, classes, first in slices:
            self._put(number, tuple(classes), first)


def _headless(trunk: networks.Classifier) -> networks.Classifier:
    """The network with nothing in the place of its head."""
    trunk.head = nn.Identity()  # type: ignore[assignment]
    return trunk
