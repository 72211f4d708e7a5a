"""Learning without forgetting: the network before an experience teaches the network in it.

Li & Hoiem, "Learning without Forgetting", ECCV 2016, https://arxiv.org/abs/1606.09282. Over the
classes that the teacher knows, at temperature T: CE(net(x), y) + alpha KL(teacher || net).
"""

import copy
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn, no_grad
from torch.nn.functional import kl_div

from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.strategy import Experience, StreamInfo, TrainBatch


@dataclass(frozen=True)
class LwFConfig(SGDConfig):
    """Options of LwF."""

    alpha: Annotated[float, Ge(0)] = 1.0
    """Weight of the distillation."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of both softmaxes."""


class LwF(SGDStrategy[LwFConfig]):
    """SGD with a teacher."""

    def setup(self, info: StreamInfo) -> None:
        """Build the network; in the first experience there is no teacher."""
        super().setup(info)
        self.teacher: nn.Module | None = None

    def remake(self, name: str) -> object | None:
        """Make the teacher, which `setup` does not, before a state is restored."""
        return copy.deepcopy(self.network) if name == "teacher" else super().remake(name)

    def after_experience(self, experience: Experience) -> None:
        """Copy the network, which is the teacher in the next experience."""
        self.teacher = copy.deepcopy(self.network).eval().requires_grad_(False)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """Weighted distillation loss of the batch; None without a teacher."""
        if self.teacher is None:
            return None
        with no_grad():
            wanted = (self.teacher(batch.images) / self.config.temperature).softmax(1)
        found = (logits[:, : wanted.shape[1]] / self.config.temperature).log_softmax(1)
        return self.config.alpha * kl_div(found, wanted, reduction="batchmean")
