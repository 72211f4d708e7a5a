"""Make a strategy, also one that wraps another, from its name and flat options.

A strategy that wraps another has a config field of type `clgym.config.Wrapped`. The options of the
wrapped one have the field's name as a prefix: ``{"base": "derpp", "base.lr": 0.03}``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from clgym import registry
from clgym.config import WRAPS, Field, Wrapped, fields_of, resolve
from clgym.strategy import Config, Strategy

__all__ = [
    "around_template",
    "config_fields",
    "known_failures",
    "load_strategy",
    "make_strategy",
    "plugin_entry",
    "strategy_class",
]


def strategy_class(name: str, plugins: Sequence[str] = ()) -> type[Strategy]:
    """Import the strategy class called ``name``."""
    return load_strategy(plugin_entry(name, plugins))


def load_strategy(entry: registry.PluginEntry) -> type[Strategy]:
    """Import a strategy's class; an Avalanche template is wrapped by a strategy class."""
    return registry.load_class(entry, Strategy, around_template)


def around_template(cls: type) -> type[Strategy] | None:
    """Strategy class that runs an Avalanche template, if ``cls`` is one.

    A file that defines a template has imported Avalanche already.
    """
    if not any(base.__module__.startswith("avalanche.") for base in cls.__mro__):
        return None
    from clgym.avalanche import adapter

    return adapter.strategy_of(cls) if adapter.is_template(cls) else None


def plugin_entry(name: str, plugins: Sequence[str] = ()) -> registry.PluginEntry:
    """Entry of the strategy called ``name``, without importing it."""
    return registry.find("strategies", name, [Path(p) for p in plugins])


def config_fields(
    cls: type[Strategy],
    given: Mapping[str, object],
    plugins: Sequence[str] = (),
    helped: bool = True,
) -> list[Field]:
    """The options of a strategy, followed by those of the strategies it wraps.

    Args:
        cls: The strategy.
        given: Options known so far, which determine wrapped strategies and defaults.
        plugins: Files that the user named.
        helped: Whether to read the help, for which their code is parsed.
    """
    inner: list[Field] = []
    for option, wrapped, below in _wrapped(cls, given, plugins):
        theirs = config_fields(wrapped, below, plugins, helped)
        for field in theirs:
            when = {f"{option}.{name}": values for name, values in (field.when or {}).items()}
            name = f"{option}.{field.name}"
            inner.append(replace(field, name=name, search=None, when=when or None))
    return [*_own_fields(cls, given, helped), *inner]


def _own_fields(cls: type[Strategy], given: Mapping[str, object], helped: bool) -> list[Field]:
    """The options of the strategy itself, with the defaults that follow from ``given``."""
    fields = fields_of(cls.Config, helped)
    if not issubclass(cls.Config, Config):
        return fields
    named = {key.replace("-", "_"): value for key, value in given.items()}
    defaults = cls.Config.dependent_defaults(named)
    return [replace(f, default=defaults.get(f.name, f.default)) for f in fields]


def known_failures(
    cls: type[Strategy], given: Mapping[str, object], plugins: Sequence[str] = ()
) -> dict[str, str]:
    """Checks that a strategy and those that it wraps declare to fail, with the reasons.

    Those of a wrapped strategy have the option's name as a prefix: ``base.no-labels``.
    """
    found = dict(cls.KNOWN_FAILURES)
    for option, wrapped, below in _wrapped(cls, given, plugins):
        theirs = known_failures(wrapped, below, plugins)
        found |= {f"{option}.{check}": reason for check, reason in theirs.items()}
    return found


def _wrapped(
    cls: type[Strategy], given: Mapping[str, object], plugins: Sequence[str]
) -> Iterator[tuple[str, type[Strategy], Mapping[str, object]]]:
    """For each option that names a strategy: the option, that strategy, and its given options."""
    given = {key.replace("-", "_"): value for key, value in given.items()}
    for field in fields_of(cls.Config, helped=False):
        name = given.get(field.name, field.default) if field.kind == WRAPS else None
        if name is not None:
            wrapped = strategy_class(field.check(name, cls.__name__), plugins)
            yield field.name, wrapped, _below(field.name, given)


def make_strategy(name: str, given: Mapping[str, object], plugins: Sequence[str] = ()) -> Strategy:
    """Make a strategy with its checked config; the caller calls `Strategy.setup`.

    Raises:
        UnknownName: There is no such strategy or option.
        BadConfig: A value has the wrong type or is out of range.
    """
    cls = strategy_class(name, plugins)
    given = {key.replace("-", "_"): value for key, value in given.items()}
    values = resolve(config_fields(cls, given, plugins, helped=False), given, name)
    own: dict[str, object] = {}
    for field in fields_of(cls.Config, helped=False):
        value = values[field.name]
        if field.kind == WRAPS and isinstance(value, str):
            inner = make_strategy(value, _below(field.name, values), plugins)
            value = Wrapped(value, type(inner), inner.config)
        own[field.name] = value
    return cls(cls.Config(**own))


def _below(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Options with the prefix ``name.``, without that prefix."""
    prefix = f"{name}."
    return {key[len(prefix) :]: v for key, v in given.items() if key.startswith(prefix)}
