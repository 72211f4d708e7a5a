"""The conformance suite: small named checks for strategies, scenarios and sources.

The same suite runs over all built-in plugins. `check_strategy`, `check_scenario` and `check_source`
raise on a failure, so that a plugin's own test is one line; ``clgym check`` shows every finding.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clgym import registry
from clgym.check.report import Check, CheckFailed, Finding, findings, passed
from clgym.check.tiny import workspace

if TYPE_CHECKING:
    from clgym.data.imageset import ImageSet
    from clgym.registry import Kind, PluginEntry
    from clgym.scenario import Scenario
    from clgym.strategy import Strategy

__all__ = [
    "Check",
    "CheckFailed",
    "Finding",
    "check_scenario",
    "check_source",
    "check_strategy",
    "checks_of",
    "findings_of",
    "scenario_findings",
    "strategy_checks",
    "strategy_findings",
]


def strategy_checks() -> list[Check]:
    """The checks of a strategy, in order."""
    from clgym.check import behaviour as does
    from clgym.check import completeness
    from clgym.check import declared as says

    return [
        Check(says.described),
        Check(says.config_bounds),
        Check(says.pickling),
        Check(does.unseen_classes, vital=True),
        Check(does.runs, vital=True),
        Check(does.same_seed),
        Check(does.other_seed),
        Check(does.no_labels),
        Check(does.batch_independence),
        Check(does.predict_keeps_state),
        Check(does.state_round_trip),
        Check(does.resume),
        Check(completeness.state_is_complete),
        Check(does.past_data),
        Check(does.one_sample_batch),
        Check(does.one_image_class),
        Check(says.parameters_counted),
        Check(does.devices),
    ]


def strategy_findings(
    cls: "type[Strategy]",
    *,
    name: str = "",
    summary: str | None = None,
    plugins: Sequence[Path] = (),
    only: Sequence[str] = (),
) -> Iterator[Finding]:
    """Check a strategy and yield each finding.

    Args:
        cls: The strategy's class; it needs no file.
        name: Name in messages; the class's name if left out.
        summary: First line of its file's docstring; looked up if None.
        plugins: Files of strategies that it wraps.
        only: Names of checks to restrict to; () means all.
    """
    from clgym.check.bench import NAME, Subject, quiet_torch

    summary = _summary(cls) if summary is None else summary
    with (
        quiet_torch(),
        workspace() as folder,
        registry.temporarily_registered("strategies", NAME, cls),
    ):
        subject = Subject(cls, name or cls.__name__, summary, plugins, folder)
        yield from findings(strategy_checks(), subject, cls.KNOWN_FAILURES, only)


def check_strategy(cls: "type[Strategy]") -> list[Finding]:
    """Check a strategy, as a one-line test: ``check_strategy(MyMethod)``.

    Raises:
        CheckFailed: A check fails that is not declared in ``KNOWN_FAILURES``.
    """
    return passed(cls.__name__, strategy_findings(cls))


def scenario_findings(
    cls: "type[Scenario]", *, entry: "PluginEntry | None" = None, only: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check a scenario and yield each finding.

    Args:
        cls: The class.
        entry: Entry of its file in the registry; None for a class without a file.
        only: Names of checks to restrict to; () means all.
    """
    from clgym.check.scenarios import ScenarioSubject, scenario_checks

    name = entry.name if entry else cls.__name__
    summary = entry.summary if entry else _summary(cls)
    path, presets = (entry.path, entry.presets) if entry else (None, {})
    with workspace() as folder:
        subject = ScenarioSubject(cls, name, summary, presets, path, folder)
        yield from findings(scenario_checks(), subject, cls.KNOWN_FAILURES, only)


def checks_of(kind: "Kind") -> list[Check]:
    """The checks of a kind of plugin, in order."""
    if kind == "strategies":
        return strategy_checks()
    if kind == "scenarios":
        from clgym.check.scenarios import scenario_checks

        return scenario_checks()
    from clgym.check.sources import source_checks

    return source_checks()


def findings_of(
    kind: "Kind", entry: "PluginEntry", plugins: Sequence[Path] = (), only: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check a plugin that the registry found.

    Args:
        kind: Kind of the plugin.
        entry: Entry of the plugin, from `clgym.registry.find`.
        plugins: Files that the user named.
        only: Names of checks to restrict to; () means all.

    Raises:
        BadPlugin: The plugin cannot be imported.
    """
    if kind == "strategies":
        from clgym.learner.assembly import load_strategy

        cls = load_strategy(entry)
        summary = (cls.__doc__ or "").split("\n", 1)[0] if entry.argument else entry.summary
        return strategy_findings(cls, name=entry.name, summary=summary, plugins=plugins, only=only)
    if kind == "scenarios":
        from clgym.scenario import Scenario

        return scenario_findings(registry.load_class(entry, Scenario), entry=entry, only=only)
    from clgym.check.sources import source_findings

    return source_findings(entry, plugins, only)


def check_scenario(cls: "type[Scenario]") -> list[Finding]:
    """Check a scenario, as a one-line test: ``check_scenario(MyStream)``.

    Raises:
        CheckFailed: Some check fails that is not declared in ``KNOWN_FAILURES``.
    """
    return passed(cls.__name__, scenario_findings(cls))


def check_source(cls: "type[ImageSet]") -> list[Finding]:
    """Check a source, as a one-line test: ``check_source(MyImages)``.

    Raises:
        CheckFailed: A check fails.
    """
    from clgym.check.sources import source_findings

    name = cls.__module__.rpartition(".")[2].replace("_", "-")
    with registry.temporarily_registered("sources", name, cls):
        entry = registry.find("sources", name)
        return passed(cls.__name__, source_findings(replace(entry, summary=_summary(cls))))


def _summary(cls: type) -> str:
    """First line of the file's docstring, or of the class's."""
    module = sys.modules.get(cls.__module__)
    return (getattr(module, "__doc__", None) or cls.__doc__ or "").split("\n", 1)[0]
