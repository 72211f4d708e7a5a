"""Avalanche's own strategies behind clgym's life cycle: `avalanche:NAME`.

Their data are the present experience and a counted memory. After each experience everything that
the strategy can reach is walked; the rows that its buffers hold are copied to ``info.memory``, and
all other rows of that experience are out of reach from then on. State is saved at the boundaries of
experiences: an experience that was cut short is trained again from its beginning.
"""

import contextlib
import functools
import inspect
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from avalanche.training.plugins.clock import Clock
from torch import Tensor, nn

from clgym.avalanche import model_adapters, patches, retention, snapshot
from clgym.avalanche.catalogue import RECIPES, REFUSED, Recipe
from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.feed import TrainLoader
from clgym.avalanche.heads import Heads
from clgym.avalanche.loop import fast, hooks_of
from clgym.avalanche.options import config_class, names_of
from clgym.avalanche.sgd import SGDStrategy
from clgym.errors import Incompatible
from clgym.models import networks
from clgym.models.training import Position
from clgym.strategy import Batch, Experience, Needs, State, StreamInfo

__all__ = ["AvalancheStrategy", "adapt"]

_EVAL = ("after_eval_forward", "after_eval_iteration")
"""Transformations of predictions by plugins before they are used (BiC, CoPE)."""


@functools.cache
def adapt(name: str) -> type["AvalancheStrategy"]:
    """The clgym strategy for a class of `avalanche.training`.

    Raises:
        Incompatible: that class cannot run here; the error says why.
    """
    if name in REFUSED:
        raise Incompatible(
            expected="a strategy of Avalanche that can run on clgym's streams",
            found=f"{name}: {REFUSED[name]}",
            fix="`clgym list strategies` shows those that can",
        )
    import avalanche.training

    patches.apply()
    recipe, source = RECIPES[name], getattr(avalanche.training, name)
    config = config_class(name, source, recipe)
    config.__module__ = __name__
    body = {
        "Config": config,
        "recipe": recipe,
        "template_class": source,
        "CHECK_CONFIG": recipe.check,
        "KNOWN_FAILURES": recipe.fails,
        "__doc__": f"Avalanche's {name}: {recipe.summary}.",
    }
    return type(name, (AvalancheStrategy,), body)


def __getattr__(name: str) -> Any:
    """The classes that `adapt` makes, by name: so pickle finds them again."""
    own = name.removesuffix("Config")
    if own not in RECIPES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return adapt(own) if own == name else adapt(own).Config


class AvalancheStrategy(SGDStrategy):
    """One of Avalanche's strategies; made by `adapt`."""

    recipe: ClassVar[Recipe]

    @property
    def needs(self) -> Needs:
        """Needs that the recipe states."""
        return Needs(
            task_ids=self.recipe.settings == ("task-incremental",),
            total_classes=self.recipe.head == "total",
            past_data=self.recipe.past_data,
            rereads=self.recipe.rereads,
            memory=self.config.memory_size if self.recipe.memory else 0,
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
        names = names_of(self.template_class, self.recipe)
        own = {theirs: getattr(self.config, ours) for ours, theirs in names.items()}
        own |= self.recipe.given(self)
        if self.recipe.sgd:
            own["optimizer"] = self.make_optimizer()
        own |= model_adapters.arguments(self.recipe.body, self.network)
        if "criterion" in inspect.signature(self.template_class).parameters:
            own["criterion"] = nn.CrossEntropyLoss()  # fresh: some defaults are shared by all
        with _quiet():
            return fast(self.template_class)(
                train_mb_size=self.config.batch_size,
                train_epochs=self.config.epochs,
                eval_mb_size=self.config.batch_size,
                device=self.info.device,
                evaluator=None,
                **own,
            )

    def _build(self) -> None:
        self.network = self.make_network(self._columns(self.seen))
        self.template = self._make_template()
        self.template.drop_idle_plugins()
        self.template.plugins[:0] = self.companions

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
        with self.normalisable(experience), _quiet():
            template.feed = TrainLoader(
                experience, config.batch_size, config.epochs, Position(), self.augment, safe=False
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
        graph = snapshot.capture(vars(self.template), self._outside())
        state: State = {"seen": self.seen, "sizes": list(self._sizes), "template": graph}
        state |= {"merged": self.merged} if self.merged else {}
        return state if self.heads == "shared" else {**state, "tasks": self._saved_tasks()}

    def load_state_dict(self, state: State) -> None:
        """Put the saved objects in the place of those of the fresh template."""
        self.seen, self._sizes = state["seen"], state["sizes"]
        self.merged = state.get("merged", 0)
        self._load_tasks(state)
        attributes = snapshot.rebuild(state["template"], self._outside(), self.info.device)
        vars(self.template).clear()
        vars(self.template).update(attributes)
        self.recipe.restored(self.template)

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
        return {"memory": self.info.memory, **companions}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Avalanche's prints and its warnings about its own code from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        show = warnings.showwarning

        def show_others(message: Any, category: Any, filename: str, *rest: Any) -> None:
            # By file name, since Avalanche's decorators override the filters.
            if "avalanche" not in Path(filename).parts:
                show(message, category, filename, *rest)

        warnings.showwarning = show_others
        yield
