"""`StagedStrategy`: SGD over an experience in stages, each with its own optimizer, rate and loss.

BiC fits its correction after the network, PODNet fine-tunes on balanced data, FOSTER compresses:
such a method names its stages, and each is one run of the Avalanche template. A run that was killed
continues inside the stage, with identical results.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.feed import TrainLoader
from clgym.avalanche.hooks import MethodHooks
from clgym.avalanche.sgd import SGDConfig, SGDStrategy
from clgym.models.norm import refuses_single_images, single_images_refused
from clgym.models.schedules import Schedule
from clgym.models.training import named_optimizer
from clgym.strategy import Experience, StreamInfo, TrainBatch

__all__ = ["Stage", "StagedStrategy"]


def _nothing() -> None:
    """Begin a stage without preparation."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Some epochs of SGD on some data.

    Attributes:
        epochs: Number of passes over the data.
        rate: Learning rate by epoch of the stage.
        weight_decay: Weight decay (L2 penalty) on all that is trained.
        network: Network in training mode; its output is the second argument of ``loss``.
        parameters: Parameters that are trained. All others of the network are frozen, and no
            gradient is computed for them.
        loss: The loss of a batch with its labels, and the network's output.
        data: Function that returns the rows to train on. It is called when the stage starts or is
            continued, so it must return the same rows for the same state.
        begin: Called once, before the stage's first step, and not again when a killed run is
            continued: it stores what it creates in attributes.
        training: Whether the network is in training mode; in evaluation mode batch normalisation
            uses its running statistics and leaves them.
    """

    epochs: int
    rate: Schedule
    weight_decay: float
    network: nn.Module
    parameters: Sequence[nn.Parameter]
    loss: Callable[[TrainBatch, Any], Tensor]  # Any: whatever the network returns
    data: Callable[[], Experience]
    begin: Callable[[], None] = _nothing
    training: bool = True


C = TypeVar("C", bound=SGDConfig, default=Any)


class StagedStrategy(SGDStrategy[C]):
    """Trains by SGD in one or more stages per experience.

    Subclasses name the `stages`. The hooks of `SGDStrategy` hold in every stage (`penalty`,
    `rehearse`, `after_step`) or around all of them (`before_experience`, `after_experience`); a
    stage has its own loss and rate in place of `loss` and `rate`. Epochs are counted
    through all stages of an experience, so that no two of them share a draw.

    Attributes:
        stage: The present stage, while `train` runs.
        stage_index: Number of the present stage, from 0.
        begun: Whether `Stage.begin` of the present stage was called.
    """

    transient: ClassVar[tuple[str, ...]] = ("stage",)
    stage: Stage | None = None

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """The stages of an experience, in order.

        Called after `before_experience`, and again when a killed run is continued: equal states
        must give equal stages. Modules that a later stage trains must exist by then; `Stage.begin`
        may set their values.
        """
        raise NotImplementedError

    def setup(self, info: StreamInfo) -> None:
        """Build the network and the template."""
        super().setup(info)
        self.stage_index, self.begun = 0, False
        self.template.forward = self._forward
        self.template.criterion = self._criterion
        for plugin in self.template.plugins:
            if isinstance(plugin, MethodHooks):
                # Avalanche's experience is a stage here.
                vars(plugin).pop("after_training_exp", None)

    def rng(self, *name: str) -> torch.Generator:
        """A CPU generator for one draw of the present step; see `Strategy.rng`."""
        here = self.position  # the rows of a stage are not those of the experience
        return self.experience.generator(*name, epoch=here.epoch, step=here.step)

    def _forward(self) -> Any:
        """Output of the stage's network for the present batch; may be anything."""
        assert self.stage is not None
        network = self.stage.network
        if network.training != self.stage.training:  # Avalanche sets it once a run
            network.train(self.stage.training)
        return network(self.template.mb_x)

    def _criterion(self) -> Tensor:
        assert self.stage is not None
        return self.stage.loss(self.batch, self.template.mb_output)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimizer for every stage, whose momentum starts empty."""
        if self.stage is None:
            return super().make_optimizer()
        stage, c = self.stage, self.config
        return named_optimizer(
            c.optimizer, stage.parameters, stage.rate(0), c.momentum, stage.weight_decay
        )

    def train(self, experience: Experience) -> None:
        """Carry out the stages, from where a loaded state left them."""
        if self.position.begin(experience.index):
            self.stage_index, self.begun = 0, False
            self.begin(experience)
            self.before_experience(experience)
        self.seen = experience.columns
        before = 0
        for number, stage in enumerate(self.stages(experience)):
            if number >= self.stage_index:
                self._carry_out(stage, before)
            before += stage.epochs
        self.position.end()
        self.stage_index, self.begun = 0, False
        self.after_experience(experience)

    def _carry_out(self, stage: Stage, before: int) -> None:
        """Train one stage; earlier stages of the experience took ``before`` epochs."""
        if not self.begun:
            self.position.epoch, self.position.step = before, 0
            stage.begin()
            self.begun = True
        data, size = stage.data(), self.config.batch_size
        self.stage = stage
        first_image = data.to_float(data.pixels[:1])
        data.min_batch = 2 if refuses_single_images(stage.network, first_image) else 1
        end = before + stage.epochs
        feed = TrainLoader(data, size, end, self.position, self.augmentation)
        feed.rate = lambda epoch: stage.rate(epoch - before)
        template = self.template
        template.feed, template.model, template.train_epochs = feed, stage.network, end
        with only_these_learn(stage), single_images_refused(len(data), size):
            template.train(ExperienceView(data), [])
        self.merged += stage.epochs * feed.merges
        if data is not self.experience:
            self.experience.images += data.images
        template.feed, template.model, self.stage = None, self.network, None
        self.stage_index, self.begun = self.stage_index + 1, False


@contextlib.contextmanager
def only_these_learn(stage: Stage) -> Iterator[None]:
    """Compute gradients for the parameters of a stage only, and for no others of its network."""
    everything = [*stage.network.parameters(), *stage.parameters]
    before = [(p, p.requires_grad) for p in everything]
    chosen = {id(p) for p in stage.parameters}
    try:
        for parameter in everything:
            parameter.requires_grad_(id(parameter) in chosen)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
