"""Options and needs of a strategy, as a worker reports them; no plugin is imported here."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.config import Field
from clgym.data.store import cache_dir
from clgym.engines import Channel, open_channel
from clgym.gym.confinement import confinement
from clgym.gym.conversation import Conversation
from clgym.gym.request import Request, Sandbox
from clgym.messages import DescribeNeeds, DescribeOptions, NeedsDescribed
from clgym.registry.libraries import libraries_of

__all__ = [
    "Description",
    "ask_needs",
    "ask_options",
    "describe_strategy",
    "open_learner",
    "without_weight_paths",
]

LEARNER = "clgym.learner.entrance:Learner"
"""Import path of the learner's side; only its name is known here."""


@dataclass(frozen=True)
class Description:
    """A strategy as a worker describes it."""

    name: str
    summary: str
    doc: str
    source_hash: str
    fields: list[Field]
    known_failures: dict[str, str]
    """Checks that the strategy declares to fail, with the reason."""
    read_files: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """SHA-256 of the files that the strategy's import read, such as helper modules, by name."""


def open_learner(request: Request) -> Channel:
    """Open a channel that reports a strategy's options and needs; it may open no image."""
    places = [cache_dir() / "backbones"]
    shut = confinement(request, request.strategy_config, write=places)
    return open_channel(request.engine, LEARNER, shut, libraries=_libraries(request))


def _libraries(request: Request) -> frozenset[int]:
    """What the strategy's file is seen to import."""
    entry = registry.find("strategies", request.strategy, request.plugins)
    return libraries_of(entry.path)


def _bare(
    name: str, plugins: Sequence[Path], given: Mapping[str, Any], sandbox: Sandbox
) -> Request:
    """A request that names a strategy and no stream."""
    return Request(name, "", None, given, plugins=tuple(plugins), sandbox=sandbox)


def describe_strategy(
    name: str,
    plugins: Sequence[Path] = (),
    given: Mapping[str, Any] | None = None,
    sandbox: Sandbox = "auto",
) -> Description:
    """Options of a strategy, reported by a worker: the plugin is not imported here.

    Args:
        name: A name of ``clgym list strategies``.
        plugins: Files that the user named.
        given: Options known so far; where a strategy wraps another they say which.
        sandbox: What shuts the worker in.

    Raises:
        UnknownName: nobody goes by ``name``.
        BadPlugin: its file cannot be imported.
    """
    entry = registry.find("strategies", name, plugins)
    channel = open_learner(_bare(name, plugins, given or {}, sandbox))
    try:
        return ask_options(entry, plugins, channel, given or {})
    finally:
        channel.close()


def without_weight_paths(
    name: str,
    plugins: Sequence[Path],
    values: Mapping[str, Any],
    data_root: Path | None = None,
    sandbox: Sandbox = "auto",
) -> dict[str, object]:
    """All options of a strategy, weights named by their hash where a file was given.

    Raises:
        ClgymError: the weights are not to be had.
    """
    channel = open_learner(_bare(name, plugins, values, sandbox))
    try:
        return {**values, **ask_needs(name, plugins, channel, values, "cpu", data_root).renamed}
    finally:
        channel.close()


def ask_options(
    entry: registry.PluginEntry, plugins: Sequence[Path], channel: Channel, given: Mapping[str, Any]
) -> Description:
    """Options of a strategy, from a worker that is running already; see `describe_strategy`."""
    files = registry.strategy_files(plugins)
    question = DescribeOptions(strategy=entry.name, plugins=files, given=dict(given))
    reply = Conversation(channel).describe_options(question)
    return Description(
        entry.name,
        entry.summary,
        entry.doc,
        entry.source_hash,
        reply.fields,
        reply.known_failures,
        reply.read_files,
    )


def ask_needs(
    name: str,
    plugins: Sequence[Path],
    channel: Channel,
    values: Mapping[str, Any],
    device: str,
    data_root: Path | None = None,
) -> NeedsDescribed:
    """What a strategy needs with all its options known.

    Raises:
        ClgymError: the options do not fit one another, or weights are not to be had.
    """
    files = registry.strategy_files(plugins)
    root = None if data_root is None else data_root.resolve()
    question = DescribeNeeds(
        strategy=name, plugins=files, config=dict(values), device=device, data_root=root
    )
    return Conversation(channel).describe_needs(question)
