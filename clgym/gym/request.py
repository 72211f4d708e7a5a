"""What a user asks for, checked: names found, options resolved, the stream cut, needs compared.

Nothing is written here and no strategy is imported: its options and needs are asked of a worker.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import clgym
from clgym import config as configs
from clgym import registry
from clgym.config import Field
from clgym.data import withheld
from clgym.data.sources import Source, load_source
from clgym.engines import Channel, Engine, open_channel
from clgym.errors import BadConfig, BadStream, Incompatible
from clgym.files import canonical_json, sha256
from clgym.models.pretraining import overlap
from clgym.scenario import Scenario, Stream

__all__ = [
    "Description",
    "Plan",
    "Request",
    "describe_strategy",
    "make_stream",
    "open_learner",
    "prepare",
    "scenario_fields",
    "without_weight_paths",
]

LEARNER = "clgym.learner:Learner"
"""Where the learner's side is; only its name is known here."""

FROM_PRESET = ("network", "memory_size", "model")
"""Options of a strategy, or of one that it wraps, whose defaults a scenario sets."""


@dataclass(frozen=True)
class Request:
    """One run, as it was asked for."""

    strategy: str
    scenario: str
    source: str | None = None
    """Instead of the preset's source."""
    strategy_config: Mapping[str, Any] = field(default_factory=dict)
    scenario_config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    """The learner's."""
    order_seed: int | None = None
    """The class order's; None means the preset's order."""
    device: str = "cpu"
    threads: int | None = None
    """Of torch; None means all cores. Another number may change the last bits of a result."""
    engine: Engine = "process"
    out: Path | None = None
    """None means a folder of its own under ``runs/``."""
    data_root: Path | None = None
    plugins: tuple[Path, ...] = ()
    checkpoint_minutes: float = 5.0
    """How often to save inside an experience, where the strategy offers a safe point."""
    score_on: Literal["test", "valid"] = "test"
    """Rows to score on: the test split, or the training rows that ``validation`` holds out."""
    part: tuple[int, int] | None = None
    """Only these experiences of the stream: first, and the end behind the last."""
    after: Path | None = None
    """Folder of a finished run of the first experiences, whose learner goes on from here."""


@dataclass(frozen=True)
class Description:
    """A strategy as a worker describes it."""

    name: str
    summary: str
    doc: str
    source_hash: str
    fields: list[Field]
    known_failures: dict[str, str]
    """Checks that it declares to fail, with the reason."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A request that can be carried out."""

    request: Request
    strategy: Description
    strategy_config: dict[str, Any]
    needs: dict[str, Any]
    scenario: dict[str, Any]
    """Name and options."""
    stream: Stream
    sources: list[Source]
    total_columns: int
    """Classes of the stream, those beyond the end of a part included."""
    threads: int
    backbone: dict[str, Any] | None = None
    """Who the pretrained network is, if the strategy builds on one, and which of the stream's
    classes its weights have seen."""

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the result: an output folder belongs to one key."""
        identity = [
            clgym.__version__,
            self.strategy.name,
            self.strategy.source_hash,
            self.strategy_config,
            self.stream.digest,
            self.request.seed,
            self.request.device.partition(":")[0],  # which of several equal ones does not matter
            self.threads,
            self.request.after and sha256((self.request.after / "record.json").read_bytes()),
        ]
        identity += [self.backbone["weights"]] if self.backbone else []
        identity += ["inline"] if self.request.engine == "inline" else []
        return sha256(canonical_json(identity))

    @property
    def out(self) -> Path:
        """Where the run's files go."""
        if self.request.out is not None:
            return self.request.out
        name = f"{self.strategy.name}-{self.stream.name}-s{self.request.seed}-{self.key[:8]}"
        return Path("runs") / name.replace(":", "-").replace("/", "-")

    def describe(self) -> dict[str, Any]:
        """The plan as data, for ``--dry-run``."""
        stream = self.stream
        return {
            "strategy": {"name": self.strategy.name, "config": self.strategy_config},
            "scenario": {**self.scenario, "setting": stream.setting, "digest": stream.digest},
            "sources": [{"name": s.name, "flags": list(s.flags)} for s in self.sources],
            "backbone": self.backbone,
            "image_shape": list(stream.image_shape),
            "experiences": stream.outline(),
            "seed": self.request.seed,
            "device": self.request.device,
            "threads": self.threads,
            "out": str(self.out),
        }


def open_learner(request: Request) -> Channel:
    """A channel to the learner's side, on the request's engine."""
    return open_channel(request.engine, LEARNER)


def prepare(request: Request, channel: Channel | None = None) -> Plan:
    """Check everything that can be checked before work starts; write nothing.

    Args:
        request: What was asked for.
        channel: Whom to ask about the strategy; None opens one for the question.

    Raises:
        ClgymError: whatever is wrong with the request.
    """
    entry = registry.find("strategies", request.strategy, request.plugins)
    scenario = make_scenario(request)
    sources = load_sources(scenario, request)
    stream, total = cut(scenario, sources, request)
    threads = _threads(request)
    if (seed := request.seed) < 0:
        raise BadConfig(expected="a seed of at least 0", found=str(seed), fix="Give 0 or more")
    asked = channel or open_learner(request)
    try:
        description = _describe(entry, request.plugins, asked, request.strategy_config)
        values = _strategy_values(description, scenario, request)
        question = _question(entry.name, request.plugins, values)
        reply = asked.ask({**question, "device": request.device}, _ignore)
    finally:
        if channel is None:
            asked.close()
    values.update(reply.get("renamed", {}))
    _check_needs(entry.name, reply["needs"], stream)
    _check_measured(stream)
    digest = _source_hash(entry, description.fields, values, request.plugins)
    return Plan(
        request=request,
        strategy=replace(description, source_hash=digest),
        strategy_config=values,
        needs=reply["needs"],
        backbone=_backbone(reply.get("backbone"), stream),
        scenario=scenario.describe(),
        stream=stream,
        sources=sources,
        total_columns=total,
        threads=threads,
    )


def describe_strategy(
    name: str, plugins: Sequence[Path] = (), given: Mapping[str, Any] | None = None
) -> Description:
    """A strategy's options, asked of a worker: the plugin is not imported here.

    Args:
        name: A name of ``clgym list strategies``.
        plugins: Files that the user named.
        given: Options known so far; where a strategy wraps another they say which.

    Raises:
        UnknownName: nobody goes by ``name``.
        BadPlugin: its file cannot be imported.
    """
    entry = registry.find("strategies", name, plugins)
    channel = open_channel("process", LEARNER)
    try:
        return _describe(entry, plugins, channel, given or {})
    finally:
        channel.close()


def without_weight_paths(
    name: str, plugins: Sequence[Path], values: Mapping[str, Any]
) -> dict[str, Any]:
    """All options of a strategy, weights named by their hash where a file was given.

    Raises:
        ClgymError: the weights are not to be had.
    """
    channel = open_channel("process", LEARNER)
    try:
        question = {**_question(name, plugins, dict(values)), "device": "cpu"}
        return {**values, **channel.ask(question, _ignore).get("renamed", {})}
    finally:
        channel.close()


def _describe(
    entry: registry.Entry, plugins: Sequence[Path], channel: Channel, given: Mapping[str, Any]
) -> Description:
    question = {**_question(entry.name, plugins, None), "given": dict(given)}
    reply = channel.ask(question, _ignore)
    fields = [Field(**{**f, "choices": tuple(f["choices"])}) for f in reply["fields"]]
    return Description(
        entry.name, entry.summary, entry.doc, entry.source_hash, fields, reply["known_failures"]
    )


def _question(name: str, plugins: Sequence[Path], config: dict[str, Any] | None) -> dict[str, Any]:
    files = registry.with_registered(plugins)
    return {"do": "describe", "strategy": name, "plugins": files, "config": config}


def _source_hash(
    entry: registry.Entry, fields: list[Field], values: dict[str, Any], plugins: Sequence[Path]
) -> str:
    """Of the plugin's file; of a strategy that wraps others, of all their files."""
    names = [values[f.name] for f in fields if f.kind == configs.WRAPS and values[f.name]]
    if not names:
        return entry.source_hash
    wrapped = [registry.find("strategies", name, plugins).source_hash for name in names]
    return sha256(canonical_json([entry.source_hash, *wrapped]))


def _ignore(event: dict[str, Any]) -> None:
    """A question has no events worth showing."""


def _strategy_values(
    description: Description, scenario: Scenario, request: Request
) -> dict[str, Any]:
    """Defaults, then what the preset says under the same name, then what the user gave."""
    names = {f.name for f in description.fields}
    preset = configs.values_of(scenario.config)
    known = [k for k in FROM_PRESET if k in preset]
    shared = {n: preset[k] for n in names if (k := n.rpartition(".")[2]) in known}
    given = {key.replace("-", "_"): v for key, v in request.strategy_config.items()}
    values = configs.resolve(description.fields, {**shared, **given}, description.name)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def scenario_fields(name: str, plugins: Sequence[Path] = ()) -> list[Field]:
    """A scenario's options, with the preset's values as defaults.

    Raises:
        UnknownName: nobody goes by ``name``.
    """
    cls, preset = _scenario_class(name, plugins)
    fields = []
    for f in configs.fields_of(cls.Config):
        given = f.name in preset
        default = f.check(preset[f.name], name) if given else f.default
        fields.append(
            Field(**{**vars(f), "default": default, "required": f.required and not given})
        )
    return fields


def make_scenario(request: Request) -> Scenario:
    """The scenario with its options resolved."""
    cls, preset = _scenario_class(request.scenario, request.plugins)
    given = {key.replace("-", "_"): v for key, v in request.scenario_config.items()}
    if request.source is not None:
        given["source"] = request.source
    config = configs.build(cls.Config, {**preset, **given}, request.scenario)
    scenario = cls(config, request.scenario)
    scenario.data_root = request.data_root
    return scenario


def make_stream(request: Request) -> Stream:
    """Load the request's sources and cut its stream."""
    scenario = make_scenario(request)
    return cut(scenario, load_sources(scenario, request), request)[0]


def load_sources(scenario: Scenario, request: Request) -> list[Source]:
    """The images that a stream is cut from.

    Raises:
        Withheld: classes or images of another phase.
    """
    names = scenario.source_names()
    withheld.check_classes(names, getattr(scenario.config, "classes", None))
    withheld.check_half(names, getattr(scenario.config, "rows", "all"))
    return [load_source(name, request.data_root, plugins=request.plugins) for name in names]


def cut(scenario: Scenario, sources: list[Source], request: Request) -> tuple[Stream, int]:
    """The stream that is asked for, and the classes to its end where that is a part."""
    stream = scenario.stream(sources, request.order_seed)
    if request.part is not None:
        stream = stream.part(request.part[0], len(stream))
    total = stream.columns_after(len(stream) - 1)
    if request.part is not None:
        stream = stream.part(0, request.part[1] - request.part[0])
    return stream if request.score_on == "test" else stream.on_validation(), total


def _scenario_class(name: str, plugins: Sequence[Path]) -> tuple[type[Scenario], dict[str, Any]]:
    entry = registry.find("scenarios", name, plugins)
    cls = registry.load_class(entry, Scenario)
    return cls, entry.presets.get(name.replace("_", "-"), {})


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(request: Request) -> int:
    threads = _cores() if request.threads is None else request.threads
    if threads < 1:
        raise BadConfig(
            expected="at least one thread", found=str(threads), fix="Give --threads 1 or more"
        )
    return threads


def _backbone(facts: dict[str, Any] | None, stream: Stream) -> dict[str, Any] | None:
    return facts and {**facts, "overlap": overlap(facts["pretraining"], stream.class_order)}


def _check_measured(stream: Stream) -> None:
    """Refuse a stream that could not be scored from its first experience on.

    Raises:
        BadStream: the first experience has no test rows.
    """
    if stream.setting != "adaptation" and not stream.measured_after(0):
        raise BadStream(
            expected="test images of the classes of the first experience",
            found="none",
            fix="Give a source whose test part has images of every class, or another --order-seed",
        )


def _check_needs(name: str, needs: dict[str, Any], stream: Stream) -> None:
    """Refuse a pairing that cannot work.

    Raises:
        Incompatible: the setting does not give what the strategy needs.
    """
    if needs["task_ids"] and not stream.gives_task_ids:
        raise Incompatible(
            expected=f"a task-incremental stream, since {name} needs task ids",
            found=f"{stream.name}, which is {stream.setting}",
            fix="Take a task-incremental scenario (`clgym list scenarios`)",
        )
    if stream.setting not in needs["settings"]:
        raise Incompatible(
            expected=f"a stream that {name} can work on ({', '.join(needs['settings'])})",
            found=f"{stream.name}, which is {stream.setting}",
            fix="Take another scenario (`clgym list scenarios`)",
        )
    if (needs["past_data"] or needs["rereads"]) and stream.single_pass:
        raise Incompatible(
            expected=f"a stream whose rows may be seen again, as {name} needs",
            found=f"{stream.name}, which is single-pass",
            fix="Take a scenario that is not online",
        )
