"""Training anew on what remains: the reference of forgetting, with every cost that it has.

A request to forget throws everything away that the base has learned, and its memory. A fresh base
learns the rows that remain in their order, with the draws of the first time: what answers then was
never given what is forgotten. It needs all past data at the time of a request, which it declares
and the record states. The distances and times of other strategies are measured against a run of
this one (``clgym run --reference``).
"""

from dataclasses import dataclass, replace

from torch import Tensor

from clgym.config import Wrapped
from clgym.data.generators import seed_generators
from clgym.strategy import (
    Batch,
    Config,
    Experience,
    ForgetRequest,
    Needs,
    Strategy,
    StreamInfo,
)


@dataclass(frozen=True)
class RetrainConfig(Config):
    """Options of training anew; those of the base follow as ``base.OPTION``."""

    base: Wrapped = Wrapped("naive")
    """Strategy that learns, before requests and after them."""


class Retrain(Strategy[RetrainConfig]):
    """A base that is made and trained again for every request."""

    def __init__(self, config: RetrainConfig) -> None:
        """Take the base from the config."""
        super().__init__(config)
        self.base: Strategy = config.base.make()

    @property
    def needs(self) -> Needs:
        """What the base needs, and at a request the rows that remain."""
        return replace(self.base.needs, retained_data=True)

    def setup(self, info: StreamInfo) -> None:
        """Set up the base."""
        super().setup(info)
        self.base.setup(info)

    def train(self, experience: Experience) -> None:
        """Train the base."""
        self.base.train(experience)

    def forget(self, request: ForgetRequest) -> None:
        """Begin with a fresh base and an empty memory; learn what remains."""
        info = self.info
        info.memory.load_state_dict({"seen": 0, "columns": {}}, info.device)
        self.base = self.config.base.make()
        seed_generators(info.seed, "setup")
        self.base.setup(info)
        for experience in request.retained:
            seed_generators(info.seed, "train", experience=experience.index)
            self.base.train(experience)

    def predict(self, batch: Batch) -> Tensor:
        """The base's answer."""
        return self.base.predict(batch)

    def costs(self) -> dict[str, float]:
        """The base's, of the last time that it was made."""
        return self.base.costs()
