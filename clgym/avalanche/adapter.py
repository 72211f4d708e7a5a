"""Avalanche templates behind clgym's life cycle: its own strategies, `avalanche:NAME`, and yours.

A template of your own is a strategy as it stands: ``clgym run my_file.py:MyTemplate split-mnist``.
Subclass `AvalancheStrategy` where its constructor takes more than numbers and texts::

    class Mine(AvalancheStrategy):
        Config = MineConfig  # an SGDConfig with memory_size
        template_class = Naive

        def arguments(self) -> Mapping[str, Any]:
            return {"plugins": [ReplayPlugin(self.config.memory_size), MyPlugin()]}

Their data are the present experience and a counted memory. After each experience everything that
the strategy can reach is walked; the rows that its buffers hold are copied to ``info.memory``, and
all other rows of that experience are out of reach from then on. State is saved at the boundaries of
experiences: an experience that was cut short is trained again from its beginning.
"""

import functools
import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import torch
from avalanche.training.plugins.clock import Clock
from torch import Tensor, nn

from clgym.avalanche import model_adapters, patches, retention, snapshot
from clgym.avalanche.catalogue import RECIPES, REFUSED, recipe_of
from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.feed import TrainLoader
from clgym.avalanche.heads import Heads
from clgym.avalanche.inferred import complete, refuse_uncalled
from clgym.avalanche.loop import fast, hooks_of
from clgym.avalanche.options import accepted_by, names_of, signature_of
from clgym.avalanche.quiet import quiet
from clgym.avalanche.recipe import Recipe
from clgym.avalanche.sgd import C, SGDStrategy
from clgym.errors import BadPlugin, Incompatible
from clgym.models import networks
from clgym.models.training import Position
from clgym.strategy import Batch, Experience, Needs, State, StreamInfo

__all__ = ["AvalancheStrategy", "Recipe", "adapt", "is_template", "strategy_of"]

_EVAL = ("after_eval_forward", "after_eval_iteration")
"""Transformations of predictions by plugins before they are used (BiC, CoPE)."""


@functools.cache
def adapt(name: str) -> type["AvalancheStrategy"]:
    """The clgym strategy for a class of `avalanche.training`.

    Raises:
        Incompatible: The class cannot run in clgym; the error says why.
    """
    if name in REFUSED:
        raise Incompatible(
            expected="a strategy of Avalanche that can run on clgym's streams",
            found=f"{name}: {REFUSED[name]}",
            fix="`clgym list strategies` shows those that can",
        )
    import avalanche.training

    patches.apply()
    return _made(name, __name__, getattr(avalanche.training, name), RECIPES[name])


def is_template(cls: type) -> bool:
    """Whether a class is one of Avalanche's strategies, or derives from one."""
    return any(
        base.__name__ == "BaseTemplate" and base.__module__ == "avalanche.training.templates.base"
        for base in cls.__mro__
    )


@functools.cache
def strategy_of(template_class: type) -> type["AvalancheStrategy"]:
    """The clgym strategy for an Avalanche template of the user's.

    It becomes an attribute of the template's module, where another process finds it.

    Raises:
        BadPlugin: Its constructor has an argument that no option can give.
    """
    patches.apply()
    module, name = template_class.__module__, f"{template_class.__name__}Strategy"
    made = _made(name, module, template_class, recipe_of(template_class))
    setattr(sys.modules[module], name, made)
    return made


def _made(name: str, module: str, source: type, recipe: Recipe) -> type["AvalancheStrategy"]:
    about = f"Avalanche's {name}: {recipe.summary}." if name in RECIPES else recipe.summary
    body = {
        "recipe": recipe,
        "template_class": source,
        "CHECK_CONFIG": recipe.check,
        "KNOWN_FAILURES": recipe.fails,
        "__module__": module,
        "__doc__": about,
    }
    return type(name, (AvalancheStrategy,), body)


def __getattr__(name: str) -> Any:
    """The classes that `adapt` makes, by name: so pickle finds them again."""
    if name not in RECIPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return adapt(name)


class AvalancheStrategy(SGDStrategy[C]):
    """An Avalanche template behind clgym's life cycle.

    Subclasses state ``template_class``. The options are read from its constructor unless there is a
    ``Config``; `arguments` gives what no option can: plugins, buffers, losses. Buffers of Avalanche
    that the template keeps are counted in ``info.memory``, so a subclass that has any needs an
    option ``memory_size``.

    All objects that the template leads to are its state: those of Avalanche and torch, and those of
    classes and functions in the files of the strategy and of the template. A plugin of another
    origin has ``state_dict`` and ``load_state_dict``.

    Attributes:
        recipe: Facts about the template that its constructor does not state; inferred if left out.
    """

    recipe: ClassVar[Recipe]
    transient = ("network",)  # the template's graph holds the model that answers

    def __init_subclass__(cls, **options: Any) -> None:
        """Infer what the class leaves out: its recipe, and its options.

        Raises:
            BadPlugin: The class keeps samples without an option for their number, or overrides a
                hook that is never called.
        """
        super().__init_subclass__(**options)
        refuse_uncalled(cls)
        complete(cls)

    def arguments(self) -> Mapping[str, Any]:
        """Arguments of the template's constructor, besides network, optimizer, loss and sizes.

        By default these are the options that have the names of arguments. What is returned here
        goes before what every template gets: ``model``, ``optimizer``, ``criterion``,
        ``train_mb_size``, ``train_epochs``, ``eval_mb_size``, ``device``, ``evaluator``.
        """
        names = names_of(self.template_class, self.recipe)
        own = {t: getattr(self.config, o) for o, t in names.items() if hasattr(self.config, o)}
        return own | self.recipe.given(self)

    @property
    def needs(self) -> Needs:
        """Needs that the recipe states."""
        config: Any = self.config  # with memory_size where the recipe says so: see `complete`
        return Needs(
            task_ids=self.recipe.settings == ("task-incremental",),
            total_classes=self.recipe.head == "total",
            past_data=self.recipe.past_data,
            rereads=self.recipe.rereads,
            memory=config.memory_size if self.recipe.memory else 0,
            settings=self.recipe.settings,
        )

    def setup(self, info: StreamInfo) -> None:
        """Build the network and the template."""
        self.recipe.refuse(self.config)
        self._sizes: list[int] = []
        super().setup(info)

    def make_network(self, columns: int) -> networks.Classifier:
        """A network whose head grows when Avalanche adapts its model."""
        network = super().make_network(columns)
        return network if self.heads != "shared" else model_adapters.adaptive(network)

    @property
    def heads(self) -> Heads:
        """Heads that the config sets; packed networks always have a head for every task."""
        return "per-task" if self.recipe.body == "packed" else super().heads

    def _make_template(self) -> Any:
        config, takes = self.config, signature_of(self.template_class)
        common: dict[str, Any] = {  # arguments of any constructor
            "train_mb_size": config.batch_size,
            "train_epochs": config.epochs,
            "eval_mb_size": config.batch_size,
            "device": self.info.device,
            "evaluator": None,
        }
        common |= model_adapters.arguments(self.recipe.body, self.network)
        if self.recipe.sgd:
            common["optimizer"] = self.make_optimizer()
        if "criterion" in accepted_by(self.template_class):
            common["criterion"] = nn.CrossEntropyLoss()  # fresh: some defaults are shared by all
        missing = [name for name in common if name not in takes]
        if missing and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            raise BadPlugin(
                expected=f"a constructor of {self.template_class.__name__} that takes "
                f"{', '.join(missing)}",
                found=f"one that takes {', '.join(takes)}",
                fix="Add **kwargs to it, and hand them on to the constructor of Avalanche's class",
            )
        with quiet():
            return fast(self.template_class)(**{**common, **self.arguments()})

    def _build(self) -> None:
        self.network = self.make_network(self._columns(self.seen))
        self.template = self._make_template()
        self.template.drop_idle_plugins()
        self._stateful = {
            f"plugin {i}": p for i, p in enumerate(self.template.plugins) if _saves_itself(p)
        }
        if type(self).__module__ != __name__:  # recipes of the catalogue make theirs writable later
            for plugin in self.template.plugins:
                self._written({type(plugin).__name__: plugin})
            self._written(vars(self.template))
        self.template.plugins[:0] = self.companions

    def _written(self, objects: Mapping[str, object]) -> State:
        """Objects of the template as tensors and plain values.

        Raises:
            BadPlugin: one of a class or function that cannot be looked up when a run is continued.
        """
        try:
            return snapshot.capture(objects, self._outside(), self._own_modules())
        except TypeError as error:
            raise BadPlugin(
                expected=f"objects in {type(self).__name__}'s template that can be saved: those of "
                "Avalanche, torch and clgym, and of classes and functions at the top level of its "
                "own file",
                found=str(error),
                fix="Define it there, or give the plugin state_dict and load_state_dict",
            ) from None

    def train(self, experience: Experience) -> None:
        """Train by Avalanche's loop and plugins, then end what the strategy can reach."""
        self._check_classes(experience)
        self.seen = experience.columns
        self._note_tasks(experience)
        if self.recipe.afresh:
            self._build()
        view = self._view(experience)
        config, template = self.config, self.template
        self._add_tasks(template.model)
        with self.normalisable(experience), quiet():
            template.feed = TrainLoader(
                experience,
                config.batch_size,
                config.epochs,
                Position(),
                self.augmentation,
                safe=False,
            )
            if self.recipe.sgd:
                template.feed.rate = self.rate
            self.recipe.before(template, view)
            template.train(view, [])
            template._train_cleanup()  # joint training does not do it
            self.recipe.after(template, self.needs.memory)
        template.feed = None
        self._to_evaluation()  # here, so that predicting changes nothing in the state
        kept = self.recipe.kept(template)
        retention.end(vars(template), view.rows, kept, self.info.memory, experience)

    def _to_evaluation(self) -> None:
        self.template.is_training = False
        self.template.model.eval()

    def _check_classes(self, experience: Experience) -> None:
        if self.recipe.new_classes_only and min(experience.classes) < self.seen:
            raise Incompatible(
                expected=f"a stream on which every experience brings new classes only, "
                f"for {type(self).__name__}",
                found=f"column {min(experience.classes)} again in experience {experience.index}",
                fix="Use a stream without repetition, or another strategy",
            )

    def _view(self, experience: Experience) -> ExperienceView:
        view = ExperienceView(experience)
        # iCaRL reads how many classes each experience brings; all that come later are one entry.
        self._sizes.append(len(experience.classes))
        later = self._columns(experience.columns) - sum(self._sizes)
        view.benchmark = SimpleNamespace(
            n_classes_per_exp=[*self._sizes, later], classes_order=view.classes_seen_so_far
        )
        return view

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the template in Avalanche's own evaluation, for the classes seen."""
        template: Any = self.template
        n = len(batch)
        zeros = torch.zeros(n, dtype=torch.long, device=batch.images.device)
        self._to_evaluation()
        template.experience = SimpleNamespace(task_labels=[batch.task or 0])
        template.mbatch = [batch.images, zeros, zeros + (batch.task or 0)]
        template.mb_output = template.forward()
        for event in _EVAL:
            for hook in hooks_of(template, event):
                if not isinstance(getattr(hook, "__self__", None), Clock):  # it counts batches
                    hook(template)
        answer = template.mb_output
        template.mbatch = template.mb_output = template.experience = None
        if answer.shape[1] < self.seen:  # a class mean that is not known yet
            lowest = torch.finfo(answer.dtype).min
            missing = answer.new_full((n, self.seen - answer.shape[1]), lowest)
            answer = torch.cat([answer, missing], 1)
        return answer[:, : self.seen]

    def stateless(self) -> set[str]:
        """Not the template, whose whole graph of objects is saved here."""
        return super().stateless() - {"template"}

    def state_dict(self) -> State:
        """The template's whole graph of objects, as tensors and plain values."""
        graph = self._written(vars(self.template))
        state: State = {"seen": self.seen, "sizes": list(self._sizes), "template": graph}
        state |= {"merged": self.merged} if self.merged else {}
        if self._stateful:
            state["plugins"] = {name: p.state_dict() for name, p in self._stateful.items()}
        return state if self.heads == "shared" else {**state, "tasks": self._saved_tasks()}

    def load_state_dict(self, state: State) -> None:
        """Put the saved objects in the place of those of the fresh template."""
        self.seen, self._sizes = state["seen"], state["sizes"]
        self.merged = state.get("merged", 0)
        self._load_tasks(state)
        attributes = snapshot.rebuild(
            state["template"], self._outside(), self.info.device, self._own_modules()
        )
        vars(self.template).clear()
        vars(self.template).update(attributes)
        for name, plugin in self._stateful.items():
            plugin.load_state_dict(state["plugins"][name])
        self.recipe.restored(self.template)
        if isinstance(self.template.model, networks.Classifier):
            self.network = self.template.model  # the one that setup made was never trained

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

    def _outside(self) -> dict[str, object]:
        """What the template leads to and others save."""
        companions = {f"companion {i}": plugin for i, plugin in enumerate(self.companions)}
        here = {"memory": self.info.memory, "template": self.template, "strategy": self}
        return {**here, **companions, **self._stateful}

    def _own_modules(self) -> dict[str, ModuleType]:
        """Files of the strategy and of its template: their classes may be looked up."""
        homes = {"strategy": type(self).__module__, "template": self.template_class.__module__}
        known = ("avalanche.", "clgym.avalanche.")
        return {name: sys.modules[m] for name, m in homes.items() if not m.startswith(known)}


def _saves_itself(plugin: object) -> bool:
    """Whether a plugin that is not Avalanche's has the two methods of a state."""
    methods = ("state_dict", "load_state_dict")
    theirs = type(plugin).__module__.startswith("avalanche.")
    return not theirs and all(callable(getattr(plugin, name, None)) for name in methods)
