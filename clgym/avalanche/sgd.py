"""`SGDStrategy`: a learner that owns an Avalanche template and composes by Avalanche's plugins."""

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

from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.feed import Position, TrainLoader
from clgym.avalanche.heads import Heads, TaskNetwork, task_classes, with_heads
from clgym.avalanche.loop import fast
from clgym.data.augment import crop_flip
from clgym.errors import Incompatible
from clgym.models import networks
from clgym.models.norm import has_batch_norm, single_images_refused
from clgym.strategy import Augment, Batch, Config, Experience, State, Strategy, StreamInfo

__all__ = ["AUGMENT", "HeadsConfig", "SGDConfig", "SGDStrategy"]

AUGMENT: dict[str, Augment | None] = {"none": None, "crop-flip": crop_flip}


@dataclass(frozen=True)
class SGDConfig(Config):
    """Options of every strategy that trains by stochastic gradient descent."""

    lr: Annotated[float, Gt(0)] = 0.03
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.0
    """Momentum of SGD; its state starts afresh with every experience."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay (L2 penalty)."""
    epochs: Annotated[int, Ge(1)] = 1
    """Number of epochs per experience."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = ()
    """Fractions of the epochs after which the learning rate is divided by ten."""
    batch_size: Annotated[int, Ge(1)] = 32
    """New samples per step. A last batch of one image, which batch normalisation cannot process,
    joins the batch before it."""
    network: str = "mlp"
    """Network to train from scratch: mlp, mobilenetv2, resnet18, resnet18-7x7, resnet18-dst,
    resnet32, resnet50, resnet50-bottleneck, slim-resnet18, vgg11, vgg16."""
    hidden: tuple[Annotated[int, Ge(1)], ...] = networks.HIDDEN
    """Units of each hidden layer of the network mlp; two layers of 100 are common in the
    literature."""
    augment: Literal["none", "crop-flip"] = "none"
    """Augmentation of training batches: random crop (padding 4) and horizontal flip."""


@dataclass(frozen=True)
class HeadsConfig(SGDConfig):
    """Options of those that can train a head for every task."""

    heads: Heads = "per-task"
    """Heads on task-incremental streams: one per task; one whose loss is over the task's own
    classes (shared-masked); or one whose loss is over all classes seen (shared)."""


class SGDStrategy(Strategy):
    """Trains one network with a growing linear head by SGD, plain unless plugins say otherwise.

    On task-incremental streams there is a head for every task, where the config is a `HeadsConfig`
    and says so. ``template.model(images)`` then answers for the present task, and
    ``template.model(images, tasks)`` for each image's own; columns of other tasks hold a logit that
    vanishes in a softmax. A strategy that replays puts the task of each sample into the batch.

    Subclasses override `plugins`, and `template_class` for another Avalanche loop. The template
    calls the plugins as Avalanche does. A plugin that holds state has ``state_dict`` and
    ``load_state_dict``; its ``before_training_exp`` is called again when a run is continued inside
    an experience.

    Attributes:
        template: The Avalanche strategy; plugins get it as their first argument.
        network: The classifier that is trained.
        experience: The present one, while `train` runs.
        position: The next step, while `train` runs.
        seen: Classes that have come so far: the width of an answer.
        merged: Last batches of one image that have joined the batch before, which batch
            normalisation needs: every epoch of an experience has one or none.
        companions: Plugins of a strategy that wraps this one, called before its own; set before
            `setup`, and saved by the code that set them.
        criterion: Mean loss [] of logits and labels: cross-entropy, unless a wrapper weighs
        samples.
    """

    Config: ClassVar[type] = HeadsConfig
    template_class: ClassVar[type] = SupervisedTemplate
    template: Any
    network: networks.Classifier
    companions: Sequence[Any] = ()
    criterion: Callable[[Tensor, Tensor], Tensor] = staticmethod(cross_entropy)

    def __init_subclass__(cls, **options: Any) -> None:
        """Let subclasses with costs of their own record the merged batches too."""
        super().__init_subclass__(**options)
        if "costs" in vars(cls):
            own = cls.costs

            @functools.wraps(own)
            def costs(self: Any) -> dict[str, float]:
                return {**SGDStrategy.costs(self), **own(self)}

            cls.costs = costs

    def plugins(self) -> Sequence[Any]:
        """Avalanche plugins, in the order in which they are called; asked for once, in `setup`."""
        return ()

    def setup(self, info: StreamInfo) -> None:
        """Build the network and the template."""
        super().setup(info)
        self.check_single_pass(self.config.epochs)
        self.position = Position()
        self.seen = self.merged = 0
        self._tasks: dict[int, tuple[int, ...]] = {}
        self.experience: Experience | None = None
        self._optimizer_state: State | None = None
        self._plugins = list(self.plugins())
        self._build()

    def _build(self) -> None:
        self.network = self.make_network(self._columns(0))
        with warnings.catch_warnings():
            # The gym keeps the score: no metrics, hence no loggers.
            warnings.filterwarnings("ignore", message="No loggers specified")
            self.template = self._make_template()
        self.template.drop_idle_plugins()
        self.template.plugins[:0] = self.companions
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

    @property
    def heads(self) -> Heads:
        """Heads that the config sets on task-incremental streams; one head on all others."""
        tasks = self.info.setting == "task-incremental"
        return getattr(self.config, "heads", "shared") if tasks else "shared"

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

    def _note_tasks(self, experience: Experience) -> None:
        """Know the classes of all tasks so far; the present one is the last."""
        for task, classes in task_classes(experience).items():
            old = self._tasks.pop(task, ())
            self._tasks[task] = tuple(dict.fromkeys((*old, *classes)))

    def _saved_tasks(self) -> list[list[Any]]:
        return [[task, list(classes)] for task, classes in self._tasks.items()]

    def _load_tasks(self, state: State) -> None:
        """Know the tasks of a saved state.

        Raises:
            Incompatible: it has none, since it was trained before there were heads.
        """
        if self.heads != "shared" and "tasks" not in state:
            raise Incompatible(
                expected="a run with heads for tasks, as its options say",
                found="one with a single head, from before there was a choice",
                fix="Run it again, with --heads shared for the same training",
            )
        self._tasks = {task: tuple(classes) for task, classes in state.get("tasks", [])}

    def _add_tasks(self, network: networks.Classifier) -> None:
        """Units for all tasks that have come, where the network knows tasks."""
        if isinstance(network, TaskNetwork):
            for task, classes in self._tasks.items():
                network.add(task, classes)

    def _columns(self, seen: int) -> int:
        """Width of the head when ``seen`` classes have come."""
        total = self.info.total_columns if self.needs.total_classes else None
        return total or max(seen, 1)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimizer, for every experience."""
        c = self.config
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.SGD(parameters, c.lr, c.momentum, weight_decay=c.weight_decay)

    def _renew_optimizer(self, **_: Any) -> None:
        """A fresh optimizer, or the one of the run that is continued."""
        self.template.optimizer = self.make_optimizer()
        if self._optimizer_state is not None:
            self.template.optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None

    def train(self, experience: Experience) -> None:
        """Train on one experience, from where a loaded state left it."""
        self._note_tasks(experience)
        self._add_tasks(self.network)
        if self.position.experience != experience.index:
            self.position = Position(experience.index)
            self._optimizer_state = None
            self.begin(experience)
        self.experience, self.seen = experience, experience.columns
        augment = AUGMENT[self.config.augment]
        size, epochs = self.config.batch_size, self.config.epochs
        with self.normalisable(experience):
            self.template.feed = TrainLoader(experience, size, epochs, self.position, augment)
            self.template.feed.rate = self.rate
            self.template.train(ExperienceView(experience), [])
        self.template.feed = self.experience = None
        self.position = Position()

    @contextlib.contextmanager
    def normalisable(self, experience: Experience) -> Iterator[None]:
        """Batches that batch normalisation can take: a last one of one image joins another.

        Raises:
            Incompatible: single images are all there is.
        """
        if has_batch_norm(self.network):
            experience.min_batch = 2
        with single_images_refused(len(experience), self.config.batch_size):
            yield
        self.merged += self.config.epochs * self.template.feed.merges

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        config = self.config
        # Rounded: in binary 0.55 of 100 epochs is a little more than 55.
        drops = sum(epoch >= round(share * config.epochs, 9) for share in config.lr_drops)
        return config.lr * 0.1**drops

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch before plugins add to it: `criterion` over all columns."""
        return self.criterion(logits, labels)

    def begin(self, experience: Experience) -> None:
        """Make the network ready for a new experience; not called when one is continued."""
        self.network.grow(self._columns(experience.columns))

    def augmented(self, images: Tensor, *name: str) -> Tensor:
        """Images of a memory, augmented as new ones are.

        Args:
            images: float [n, C, H, W] in [0, 1].
            name: Name of the draw, see `generator`; that of the images themselves may be reused.
        """
        augment = AUGMENT[self.config.augment]
        return images if augment is None else augment(images, self.generator(*name, "augmentation"))

    def generator(self, *name: str) -> torch.Generator:
        """A CPU generator that depends on the run's seed, the present step and ``name`` alone.

        Raises:
            BadPlugin: numbers in the place of a name, as in clgym 0.1.
        """
        assert self.experience is not None
        here = self.position
        return self.experience.generator(*name, epoch=here.epoch, step=here.step)

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the network in evaluation mode, for the classes seen."""
        if self.network.training:
            self.network.eval()
        return avalanche_forward(self.network, batch.images, batch.task)[:, : self.seen]

    def state_dict(self) -> State:
        """Weights, and inside an experience also the optimizer and the position."""
        state: State = {
            "columns": self.network.columns,
            "seen": self.seen,
            "network": dict(self.network.state_dict()),
            "position": dict(vars(self.position)),
            "plugins": {
                str(i): plugin.state_dict()
                for i, plugin in enumerate(self._plugins)
                if hasattr(plugin, "state_dict")
            },
        }
        if self.merged:
            state["merged"] = self.merged
        if isinstance(self.network, TaskNetwork):
            state["tasks"] = self._saved_tasks()
        if self.position.experience >= 0:
            state["optimizer"] = self.template.optimizer.state_dict()
        return state

    def load_state_dict(self, state: State) -> None:
        """Restore weights, plugins, optimizer and position."""
        self.seen, self.merged = state["seen"], state.get("merged", 0)
        self._load_tasks(state)
        self._add_tasks(self.network)
        self.network.grow(state["columns"])
        self.network.load_state_dict(state["network"])
        self.position = Position(**state["position"])
        for index, held in state["plugins"].items():
            self._plugins[int(index)].load_state_dict(held)
        self._optimizer_state = state.get("optimizer")

    def costs(self) -> dict[str, float]:
        """Number of last batches of one image that were merged with the batch before, if any."""
        return {"merged_batches": self.merged} if self.merged else {}

    def parameter_count(self) -> int:
        """Weights and buffers of the network."""
        return sum(t.numel() for t in self.network.state_dict().values())
