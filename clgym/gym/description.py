"""Options and needs of a strategy, as a worker reports them; no plugin is imported here."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clgym import registry
from clgym.config import Field
from clgym.data.store import cache_dir
from clgym.engines import Channel, OnEvent, open_channel, refuse_inside
from clgym.engines.answer import as_data, raise_error
from clgym.engines.channel import Message
from clgym.errors import BadConfig, MissingData, UnknownName
from clgym.gym.confinement import confinement
from clgym.gym.conversation import Conversation
from clgym.gym.kept_answers import KeptAnswers
from clgym.gym.request import Request, Sandbox
from clgym.messages import (
    DescribeNeeds,
    DescribeOptions,
    DescribeReads,
    NeedsDescribed,
    OptionsDescribed,
)
from clgym.registry.libraries import libraries_of

__all__ = [
    "Description",
    "ask_needs",
    "ask_options",
    "describe_strategy",
    "needs_question",
    "open_learner",
    "options_question",
    "without_weight_paths",
]

_ANSWERS = (MissingData, BadConfig, UnknownName)
"""Errors that count as replies, since the same question would raise them again."""
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
    given: Mapping[str, object] = dataclasses.field(default_factory=dict[str, object])
    """Options that were given when these fields were requested."""


class _Describer:
    """A channel that starts a learner only for the first question whose reply is not cached."""

    def __init__(self, request: Request) -> None:
        self._request, self._learner = request, cast(Channel | None, None)
        self._kept = KeptAnswers(request)

    @property
    def enforced(self) -> str:
        """See `Channel.enforced`; ``none`` where there is no process."""
        return "none" if self._learner is None else self._learner.enforced

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """See `Channel.ask`."""
        known = self._kept.find(message)
        if known is not None:
            raise_error(known, sys.stderr.write)
            return known
        learner = self._learner = self._learner or _open(self._request)
        try:
            reply = learner.ask(message, on_event)
        except _ANSWERS as error:
            self._keep(learner, message, as_data(error))
            raise
        self._keep(learner, message, reply)
        return reply

    def _keep(self, learner: Channel, message: Message, reply: Message) -> None:
        plugins = registry.strategy_files(self._request.plugins)
        reads = Conversation(learner).describe_reads(DescribeReads(plugins=plugins))
        self._kept.keep(message, reply, reads)

    def prepare(self, libraries: Iterable[int]) -> None:
        """See `Channel.prepare`."""
        if self._learner is not None:
            self._learner.prepare(libraries)

    def close(self) -> None:
        """End the learner, if there is one."""
        if self._learner is not None:
            self._learner.close()
            self._learner = None


def open_learner(request: Request) -> Channel:
    """Open a channel that reports a strategy's options and needs; it may open no image.

    A learner is started only for a question whose reply is not cached.
    """
    refuse_inside(LEARNER)
    return _Describer(request)


def _open(request: Request) -> Channel:
    shut = confinement(request, request.strategy_config, write=[cache_dir() / "backbones"])
    entry = registry.find("strategies", request.strategy, request.plugins)
    return open_channel(request.engine, LEARNER, shut, libraries=libraries_of(entry.path))


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
        given: Options known so far; they determine a wrapped strategy.
        sandbox: Sandbox of the worker.

    Raises:
        UnknownName: There is no strategy called ``name``.
        BadPlugin: Its file cannot be imported.
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
    """All options of a strategy; weights that were given as a file are named by their hash.

    Raises:
        ClgymError: The weights are not available.
    """
    channel = open_learner(_bare(name, plugins, values, sandbox))
    try:
        return {**values, **ask_needs(name, plugins, channel, values, "cpu", data_root).renamed}
    finally:
        channel.close()


def ask_options(
    entry: registry.PluginEntry, plugins: Sequence[Path], channel: Channel, given: Mapping[str, Any]
) -> Description:
    """Options of a strategy, from an open channel; see `describe_strategy`.

    Of ``given`` only options of the strategy are passed on, so that options of the run on a command
    line do not influence it.
    """
    talk = Conversation(channel)
    asked: list[dict[str, object]] = [{}]
    while True:
        question = options_question(entry.name, plugins, asked[-1])
        reply = talk.describe_options(question)
        own = {field.name for field in reply.fields}
        relevant = {key: v for key, v in given.items() if key.replace("-", "_") in own}
        if relevant in asked:  # the wrapped strategy, and so its options, may have changed
            return _described(entry, question, reply)
        asked.append(relevant)


def options_question(
    name: str, plugins: Sequence[Path], given: Mapping[str, Any]
) -> DescribeOptions:
    """The question for a strategy's options."""
    files = registry.strategy_files(plugins)
    return DescribeOptions(strategy=name, plugins=files, given=given)


def _described(
    entry: registry.PluginEntry, question: DescribeOptions, reply: OptionsDescribed
) -> Description:
    return Description(
        entry.name,
        entry.summary,
        entry.doc,
        entry.source_hash,
        reply.fields,
        reply.known_failures,
        reply.read_files,
        question.given,
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
        ClgymError: The options do not fit one another, or weights are not available.
    """
    question = needs_question(name, plugins, values, device, data_root)
    return Conversation(channel).describe_needs(question)


def needs_question(
    name: str,
    plugins: Sequence[Path],
    values: Mapping[str, Any],
    device: str,
    data_root: Path | None,
) -> DescribeNeeds:
    """The question for a strategy's needs."""
    files = registry.strategy_files(plugins)
    root = None if data_root is None else data_root.resolve()
    return DescribeNeeds(
        strategy=name, plugins=files, config=dict(values), device=device, data_root=root
    )
