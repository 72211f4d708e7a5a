"""Configs for Avalanche's strategies, read from the signatures of their constructors."""

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge

from clgym.avalanche.recipe import Recipe
from clgym.avalanche.sgd import HeadsConfig, SGDConfig
from clgym.config import fields_of
from clgym.strategy import Config

__all__ = [
    "COMMON",
    "MEMORY",
    "accepted_by",
    "config_class",
    "names_of",
    "plain_kind",
    "signature_of",
]

MEMORY = {"mem_size": "memory_size", "memory_size": "memory_size"}
"""Arguments that bound the number of samples kept, by name; clgym has one name for them."""

COMMON = {"self", "model", "optimizer", "criterion", "device", "plugins", "evaluator"} | {
    "train_mb_size",
    "train_epochs",
    "eval_mb_size",
    "eval_every",
    "peval_mode",
}
"""Arguments that every strategy has, which the adapter sets."""

_PLAIN = (bool, int, float, str)

_WITHOUT_SGD = ("batch_size", "network", "hidden")


def config_class(name: str, cls: type, recipe: Recipe) -> type:
    """A frozen dataclass: the options of SGD, and those of the strategy's constructor."""
    fields = _sgd_fields(recipe) + _own_fields(cls, recipe)
    namespace = {f.name: f.default for f in dataclasses.fields(SGDConfig)}
    made = dataclasses.make_dataclass(
        f"{name}Config", fields, bases=(Config,), frozen=True, namespace=_missing(namespace, fields)
    )
    made.__doc__ = f"Options of avalanche:{name}."
    return made


def _missing(namespace: Mapping[str, object], fields: list[Any]) -> dict[str, object]:
    """Options of SGD that the strategy lacks, as constants the training loop can read."""
    present = {name for name, *_ in fields}
    return {name: value for name, value in namespace.items() if name not in present}


def names_of(cls: type, recipe: Recipe) -> dict[str, str]:
    """Names in the constructor by names in the config, for the strategy's own options."""
    return {_ours(p.name): p.name for p in _parameters(cls, recipe)}


def _ours(name: str) -> str:
    # BiC's second stage has a learning rate too, besides that of SGD.
    return MEMORY.get(name, "stage_2_lr" if name == "lr" else name)


def _sgd_fields(recipe: Recipe) -> list[Any]:
    base = HeadsConfig if recipe.multi_head else SGDConfig
    hints = get_type_hints(base, include_extras=True)
    helps = {f.name: f.help for f in fields_of(base)}
    return [
        (f.name, hints[f.name], _field(recipe.defaults.get(f.name, f.default), helps[f.name]))
        for f in dataclasses.fields(base)
        if recipe.sgd or f.name in _WITHOUT_SGD
    ]


def _own_fields(cls: type, recipe: Recipe) -> list[Any]:
    own = []
    for parameter in _parameters(cls, recipe):
        name = _ours(parameter.name)
        default = recipe.defaults.get(name, parameter.default)
        hint = _hint(parameter.annotation, default, name)
        own.append((name, hint, _field(default, _help(cls, parameter.name))))
    if recipe.memory and not any(name == "memory_size" for name, *_ in own):
        help_line = "Maximum number of samples; when full, experiences have equal shares."
        own.append(("memory_size", Annotated[int, Ge(1)], _field(200, help_line)))
    return own + [(e.name, e.kind, _field(e.default, e.help)) for e in recipe.extra]


def _field(default: Any, help_line: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help_line})


def signature_of(cls: type) -> Mapping[str, inspect.Parameter]:
    """Arguments of a constructor by name, annotations as types where they can be read."""
    try:
        return inspect.signature(cls, eval_str=True).parameters
    except (NameError, TypeError, SyntaxError):
        return inspect.signature(cls).parameters


def accepted_by(cls: type) -> set[str]:
    """Names that a constructor takes, with those that it may hand on to its base class's."""
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            taken = signature_of(base)
            names |= taken.keys()
            if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
                break
    return names


def _parameters(cls: type, recipe: Recipe) -> list[inspect.Parameter]:
    """A constructor's own arguments, those that are options."""
    found = signature_of(cls).values()
    return [
        p
        for p in found
        if p.name not in COMMON | set(recipe.hidden)
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]


def plain_kind(annotation: Any, default: Any) -> type | None:
    """The type of an argument that can be an option; None for an object of another kind."""
    parts = get_args(annotation) if _is_union(annotation) else (annotation,)
    kind = next((p for p in parts if p in _PLAIN), None)
    # Avalanche annotates some arguments as int whose default is a number like 0.1.
    if kind is None or (kind is int and isinstance(default, float)):
        kind = type(default) if type(default) in _PLAIN else kind
    return kind


def _hint(annotation: Any, default: Any, name: str) -> Any:
    """int, float, bool or str with bounds; Avalanche's annotations are loose."""
    optional = default is None
    kind: Any = plain_kind(annotation, default) or type(default)
    if kind in (int, float):
        low = 1 if name == "memory_size" else -1 if default == -1 else 0
        kind = Annotated[kind, Ge(low)]
    return kind | None if optional else kind


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _help(cls: type, name: str) -> str:
    """Description of an argument in the constructor's docstring."""
    doc = cls.__init__.__doc__ or ""
    found = re.search(rf":param {name}:(.*?)(?=:param |:return|\Z)", doc, re.DOTALL)
    words = " ".join(found.group(1).split()) if found else ""
    owner = "Avalanche's" if cls.__module__.startswith("avalanche.") else f"{cls.__name__}'s"
    return words or f"{owner} {name}."
