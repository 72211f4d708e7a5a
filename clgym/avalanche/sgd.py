"""`SGDStrategy`: a method as its hooks, around an Avalanche template and its plugins."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from avalanche.models.utils import avalanche_forward
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor
from torch.nn.functional import cross_entropy
from typing_extensions import TypeVar

from clgym._moved import report_renamed, report_renamed_method
from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.feed import TrainLoader
from clgym.avalanche.heads import Heads, TaskNetwork, with_heads
from clgym.avalanche.hooks import MethodHooks, OwnPlugin, check_plugin, overridden
from clgym.avalanche.loop import fast
from clgym.avalanche.steps import StepTools
from clgym.data.augment import AUGMENTATIONS
from clgym.models import networks
from clgym.models.norm import has_batch_norm, single_images_refused
from clgym.models.training import Position, named_optimizer
from clgym.strategy import (
    Augment,
    Batch,
    Config,
    Experience,
    StreamInfo,
    TrainBatch,
)

__all__ = ["HeadsConfig", "SGDConfig", "SGDStrategy", "StepConfig"]

report_renamed(__name__)


@dataclass(frozen=True)
class StepConfig(Config):
    """Options of the steps of stochastic gradient descent."""

    lr: Annotated[float, Gt(0)] = 0.03
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.0
    """Momentum of SGD; its state starts afresh with every experience."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimizer; momentum belongs to sgd, the others have their usual constants."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay (L2 penalty)."""
    epochs: Annotated[int, Ge(1)] = 1
    """Number of epochs per experience."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = ()
    """Fractions of the epochs after which the learning rate is divided by ten."""
    batch_size: Annotated[int, Ge(1)] = 32
    """New samples per step. A last batch of one image, which batch normalisation cannot process,
    joins the batch before it."""


@dataclass(frozen=True)
class SGDConfig(StepConfig):
    """Options of every strategy that trains a classifier by stochastic gradient descent."""

    network: str = "mlp"
    """Network to train from scratch: mlp, mobilenetv2, resnet18, resnet18-7x7, resnet18-dst,
    resnet32, resnet50, resnet50-bottleneck, slim-resnet18, slim-resnet18-7x7-pool, vgg11, vgg16."""
    hidden: tuple[Annotated[int, Ge(1)], ...] = networks.HIDDEN
    """Units of each hidden layer of the network mlp; two layers of 100 are common in the
    literature."""
    augment: Literal["none", "crop-flip"] = "none"
    """Augmentation of training batches: random crop (padding 4) and horizontal flip."""


@dataclass(frozen=True)
class HeadsConfig(SGDConfig):
    """Options of strategies that can train a head for every task."""

    heads: Heads = "per-task"
    """Heads on task-incremental streams: one per task; one whose loss is over the task's own
    classes (shared-masked); or one whose loss is over all classes seen (shared)."""


C = TypeVar("C", bound=SGDConfig, default=Any)


class SGDStrategy(StepTools[C]):
    """Trains one network with a growing linear head by SGD; a method overrides some hooks.

    One step on a batch x, y is ``loss(logits, y) + penalty(batch, logits)``, its gradient, the
    optimizer's step, ``after_step``. Hooks that a class does not override cost nothing.

    ========================================  =====================================================
    `loss`, `penalty`                         the objective, and what a method adds to it
    `rehearse`                                samples of the memory that join the batch
    `after_step`                              once the weights have moved
    `observe`                                 the whole step, for a method that owns it
    `before_experience`, `after_experience`   around all epochs; the data can be read
    `augment`                                 a random view of training images
    `begin`, `rate`                           growing the network; the learning rate of an epoch
    `make_network`, `make_optimizer`          what is trained, and by what
    `plugins`                                 Avalanche's plugins that go along
    ========================================  =====================================================

    The order within a step: companions (plugins of a strategy that wraps this one), the hooks,
    then `plugins` in their order; each Avalanche event goes to all of them before the next one.
    With `observe`, plugins are called at the beginning and the end of a step only.

    On task-incremental streams there is a head for every task, where the config is a `HeadsConfig`
    and says so. ``self.network(images)`` then answers for the present task, and `forward` for each
    sample's own; columns of other tasks hold a logit that vanishes in a softmax.

    The attributes are the state, as in every strategy. An own plugin without ``state_dict`` is
    saved by its attributes; its ``before_training_exp`` is called again when a run is continued
    inside an experience. A plugin of Avalanche's without ``state_dict`` is refused.

    Attributes:
        template: The Avalanche strategy; plugins get it as their first argument.
        network: The classifier that is trained.
        position: The next step, while `train` runs.
        seen: Number of classes seen so far: the width of the logits.
        merged: Last batches of one image that have joined the batch before, which batch
            normalisation needs: every epoch of an experience has one or none.
        companions: Plugins of a strategy that wraps this one, called before its own; set before
            `setup`, and saved by the code that set them.
        criterion: Mean loss of logits and labels: cross-entropy, unless a wrapper weighs samples.
    """

    Config: ClassVar[type] = HeadsConfig
    template_class: ClassVar[type] = SupervisedTemplate
    transient = ("template", "companions", "_plugins")
    template: Any
    network: networks.Classifier
    companions: Sequence[Any] = ()
    criterion: Callable[[Tensor, Tensor], Tensor] = staticmethod(cross_entropy)

    generator = report_renamed_method("SGDStrategy.generator", "rng")

    def __init_subclass__(cls, **options: Any) -> None:
        """Let subclasses that override `costs` record the merged batches, too."""
        super().__init_subclass__(**options)
        if "costs" in vars(cls):
            own = cls.costs

            @functools.wraps(own)
            def costs(self: Any) -> dict[str, float]:
                return {**SGDStrategy.costs(self), **own(self)}

            cls.costs = costs

    # --- hooks of a method ----------------------------------------------------------------------

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch before a penalty: `criterion` over all columns.

        Args:
            logits: [n, columns]; those of new samples come first.
            labels: int64 [n]; `batch` tells which are new.
        """
        return self.criterion(logits, labels)

    def penalty(self, batch: TrainBatch, logits: Tensor) -> Tensor | None:
        """What is added to the loss of a step; None for nothing.

        Args:
            batch: New samples and those that have joined them.
            logits: [n, columns], of this step's forward pass, with their graph.
        """
        return None

    def rehearse(self, batch: TrainBatch) -> TrainBatch | None:
        """Old samples that join a batch of new ones, such as `recall` draws; None for none."""
        return None

    def after_step(self, batch: TrainBatch, logits: Tensor) -> None:
        """Called when the weights have moved.

        Args:
            batch: New samples and those that have joined them.
            logits: [n, columns], of this step's forward pass, detached.
        """

    def observe(self, batch: TrainBatch) -> Tensor:
        """Take a whole step instead of the template; called only where a subclass overrides it.

        It computes gradients and changes weights itself; `penalty` and `after_step` are not called.

        Returns:
            The loss, for the report.
        """
        raise NotImplementedError

    def before_experience(self, experience: Experience) -> None:
        """Called when an experience begins, after `begin`; not when it is continued."""

    def after_experience(self, experience: Experience) -> None:
        """Called after the last step, while the experience's data can be read."""

    def begin(self, experience: Experience) -> None:
        """Make the network ready for a new experience; not called when one is continued."""
        self.network.grow(self._columns(experience.columns))

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        config = self.config
        # Rounded: in binary 0.55 of 100 epochs is a little more than 55.
        drops = sum(epoch >= round(share * config.epochs, 9) for share in config.lr_drops)
        return config.lr * 0.1**drops

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random view of training images; by default the augmentation that ``--augment`` names.

        `clgym.data.transforms.batched` makes such a function of torchvision's transforms, and of a
        function of one image.

        Args:
            images: float [n, C, H, W] in [0, 1].
            generator: On the CPU; all draws come from it.

        Returns:
            [n, C, H', W'].
        """
        named = AUGMENTATIONS[self.config.augment]
        return images if named is None else named(images, generator)

    def plugins(self) -> Sequence[Any]:
        """Avalanche plugins, in the order in which they are called; read once, in `setup`."""
        return ()

    def make_network(self, columns: int) -> networks.Classifier:
        """A fresh network on the device, its weights drawn from torch's global generator."""
        info = self.info
        network = networks.build(
            self.config.network,
            info.image_shape,
            columns,
            info.mean,
            info.std,
            self.config.hidden,
        )
        network = with_heads(network.to(info.device), self.heads)
        self._add_tasks(network)
        return network

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimizer, for every experience."""
        c = self.config
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return named_optimizer(c.optimizer, parameters, c.lr, c.momentum, c.weight_decay)

    @property
    def augmentation(self) -> Augment | None:
        """`augment`, or None where it changes nothing."""
        own = type(self).augment is not SGDStrategy.augment
        return self.augment if own else super().augmentation

    # --- the life cycle -------------------------------------------------------------------------

    def setup(self, info: StreamInfo) -> None:
        """Build the network and the template.

        Raises:
            BadPlugin: The state of one of Avalanche's plugins cannot be saved.
        """
        super().setup(info)
        self.check_single_pass(self.config.epochs)
        self.position = Position()
        self.seen = self.merged = 0
        self._tasks: dict[int, tuple[int, ...]] = {}
        self._take_plugins()
        self._build()

    def _take_plugins(self) -> None:
        self._plugins = list(self.plugins())
        attributes = {id(value) for value in vars(self).values()}
        for plugin in self._plugins:
            check_plugin(plugin)
        self._plugin_states = [
            plugin if hasattr(plugin, "state_dict") else OwnPlugin(plugin, self)
            for plugin in self._plugins
            if not (hasattr(plugin, "state_dict") and id(plugin) in attributes)
        ]

    def stateless(self) -> set[str]:
        """Without own plugins that are attributes: they are saved with the other plugins."""
        plain = {id(p) for p in self._plugins if not hasattr(p, "state_dict")}
        held = {name for name, value in vars(self).items() if id(value) in plain}
        return super().stateless() | held

    def _build(self) -> None:
        self.network = self.make_network(self._columns(0))
        with warnings.catch_warnings():
            # The gym keeps the score: no metrics, hence no loggers.
            warnings.filterwarnings("ignore", message="No loggers specified")
            self.template = self._make_template()
        self.template.drop_idle_plugins()
        self.template.plugins[:0] = [*self.companions, MethodHooks(self, SGDStrategy)]
        if overridden(self, SGDStrategy, "observe"):
            self.template.observe = self.observe
        self.template.check_model_and_optimizer = self._renew_optimizer

    def _make_template(self) -> Any:
        return fast(self.template_class)(
            model=self.network,
            optimizer=self.make_optimizer(),
            criterion=self.loss,
            train_mb_size=self.config.batch_size,
            train_epochs=self.config.epochs,
            eval_mb_size=self.config.batch_size,
            device=self.info.device,
            plugins=self._plugins,
            evaluator=None,
        )

    def _note_tasks(self, experience: Experience) -> None:
        """Record the classes of all tasks so far; the present one is the last."""
        for task, classes in experience.task_classes.items():
            old = self._tasks.pop(task, ())
            self._tasks[task] = tuple(dict.fromkeys((*old, *classes)))

    def _add_tasks(self, network: networks.Classifier) -> None:
        """Units for all tasks that have come, where the network knows tasks."""
        if isinstance(network, TaskNetwork):
            for task, classes in self._tasks.items():
                network.add(task, classes)

    def _columns(self, seen: int) -> int:
        """Width of the head when ``seen`` classes have come."""
        total = self.info.total_columns if self.needs.total_classes else None
        return total or max(seen, 1)

    def _renew_optimizer(self, **_: Any) -> None:
        """A fresh optimizer, in the state of the run that is continued."""
        self.template.optimizer = self.position.take(self.make_optimizer())

    def train(self, experience: Experience) -> None:
        """Train on one experience, from where a loaded state left it."""
        self._note_tasks(experience)
        self._add_tasks(self.network)
        if self.position.begin(experience.index):
            self.begin(experience)
            self.before_experience(experience)
        self.seen = experience.columns
        size, epochs = self.config.batch_size, self.config.epochs
        with self.normalisable(experience):
            self.template.feed = TrainLoader(
                experience, size, epochs, self.position, self.augmentation
            )
            self.template.feed.rate = self.rate
            self.template.train(ExperienceView(experience), [])
        self.template.feed = self.template._used = None  # the last batch is past
        self.position.end()

    @contextlib.contextmanager
    def normalisable(self, experience: Experience) -> Iterator[None]:
        """Let a last batch of one image join the one before, if batch normalisation requires it.

        Raises:
            Incompatible: A batch of one image is left.
        """
        if has_batch_norm(self.network):
            experience.min_batch = 2
        with single_images_refused(len(experience), self.config.batch_size):
            yield
        self.merged += self.config.epochs * self.template.feed.merges

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, classes seen] of the network in evaluation mode."""
        if self.network.training:
            self.network.eval()
        return avalanche_forward(self.network, batch.images, batch.task)[:, : self.seen]

    def costs(self) -> dict[str, float]:
        """Number of last batches of one image that were merged with the batch before, if any."""
        return {"merged_batches": self.merged} if self.merged else {}
