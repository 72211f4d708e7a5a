"""The hooks of `SGDStrategy` on Avalanche's events; only those that a method overrides."""

from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from clgym import attributes
from clgym.errors import BadPlugin
from clgym.strategy import Config, State, Strategy, StreamInfo

__all__ = ["MethodHooks", "OwnPlugin", "check_plugin", "overridden"]

_EVENTS = {
    "rehearse": "before_training_iteration",
    "penalty": "before_backward",
    "after_step": "after_training_iteration",
    "after_experience": "after_training_exp",
}
"""Hook of a strategy, and the event at which it is called."""

_WITHOUT_STATE = ("avalanche.core", "avalanche.training.plugins.clock")
"""Modules of Avalanche's classes that keep nothing which training depends on."""


def overridden(owner: Any, base: type, hook: str) -> bool:
    """Whether a strategy overrides a method that is empty in ``base``."""
    return getattr(type(owner), hook) is not getattr(base, hook) or hook in vars(owner)


class MethodHooks(SupervisedPlugin):
    """The first plugin of a template; it calls the hooks that its strategy overrides."""

    def __init__(self, owner: Any, base: type) -> None:
        """Register for the events of those hooks of ``base`` that ``owner`` overrides."""
        super().__init__()
        self._owner = owner
        for hook, event in _EVENTS.items():
            if overridden(owner, base, hook):
                setattr(self, event, getattr(self, f"_{hook}"))

    def _rehearse(self, template: Any, **_: Any) -> None:
        batch = template.train_batch
        if (old := self._owner.rehearse(batch)) is not None:
            template.use(batch.joined(old))

    def _penalty(self, template: Any, **_: Any) -> None:
        term = self._owner.penalty(template.train_batch, template.mb_output)
        if term is not None:
            template.loss += term

    def _after_step(self, template: Any, **_: Any) -> None:
        output = template.mb_output
        if output is not None:  # a strategy that owns its step has none
            output = output.detach() if isinstance(output, Tensor) else output
            self._owner.after_step(template.train_batch, output)

    def _after_experience(self, template: Any, **_: Any) -> None:
        self._owner.after_experience(self._owner.experience)


class OwnPlugin:
    """The state of an author's plugin that has no ``state_dict``: its attributes."""

    def __init__(self, plugin: Any, owner: Strategy) -> None:
        """Take ``plugin``; strategies, configs and stream infos are no part of its state."""
        self._plugin, self._owner = plugin, owner

    def _left_out(self) -> set[str]:
        own = (Config, Strategy, StreamInfo)
        held = {n for n, value in vars(self._plugin).items() if isinstance(value, own)}
        return held | attributes.names_left_out(self._plugin)

    def state_dict(self) -> State:
        """Values of the plugin's attributes."""
        return attributes.state_of(self._plugin, self._left_out())

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`."""
        attributes.restore(self._plugin, state, self._owner.info.device, self._left_out())


def check_plugin(plugin: Any) -> None:
    """Refuse a plugin of Avalanche's whose state nothing would save.

    Raises:
        BadPlugin: Its class or a base class is Avalanche's, and it has no ``state_dict``.
    """
    theirs = [
        cls
        for cls in type(plugin).__mro__
        if cls.__module__.startswith("avalanche.") and not _empty(cls)
    ]
    if theirs and not hasattr(plugin, "state_dict"):
        name = theirs[0].__name__
        raise BadPlugin(
            expected="plugins whose state can be saved, so that a run can be continued",
            found=f"Avalanche's {name}, which has no state_dict",
            fix=f"Give a subclass of {name} state_dict and load_state_dict, or run Avalanche's own "
            "strategy, whose state clgym saves (`clgym list strategies`: avalanche:NAME)",
        )


def _empty(cls: type) -> bool:
    """Whether a class of Avalanche's only says which callbacks there are."""
    names = ("BasePlugin", "BaseSGDPlugin", "SupervisedPlugin", "SupervisedMetaLearningPlugin")
    return cls.__module__.startswith(_WITHOUT_STATE) or cls.__name__ in names
