"""Jobs of a study's workers: survey a pair, or carry out one run. Pure functions of a message.

A worker that has closed a source never opens it again, so surveying a pair, tuning and evaluating
take place in different processes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pydantic import TypeAdapter

from clgym._moved import report_renamed
from clgym.data import withheld
from clgym.data.sources import load_source
from clgym.engines.channel import Message
from clgym.errors import BadPlan, ClgymError, GymFailed
from clgym.files import canonical_json, locked, sha256
from clgym.gym.request import Request, make_stream
from clgym.gym.run import run
from clgym.messages import to_tree
from clgym.protocol.overlap import check, check_looks, compare, footprint, looks
from clgym.protocol.pairs import ScenarioPair, named_by_sides
from clgym.results.layout import STATE
from clgym.results.record import Record, result_hash
from clgym.results.stored import StoredRun, open_run
from clgym.scenario import Stream, kind_of
from clgym.streams.adaptation import AdaptationStream

__all__ = ["TARGET", "Jobs", "RunSummary", "as_message", "order_hash", "run_summary"]

report_renamed(__name__)

TARGET = "clgym.protocol.jobs:Jobs"
_PATHS = ("out", "data_root", "after", "reference")
"""Fields of a request that are one path, if any."""


class RunSummary(TypedDict):
    """Summary of a finished run for the coordinator and the ledger."""

    last_accuracy: float
    average_incremental_accuracy: float | None
    accuracy_matrix: list[list[float | None]]
    images: int
    """Number of training images, over all epochs."""
    seconds: float
    result: str
    """SHA-256 of the deterministic part of the record."""
    record: str
    """SHA-256 of the record's file."""
    fingerprints: list[str]
    device_name: str
    engine: NotRequired[str]
    sandbox: NotRequired[str | None]
    read_files: NotRequired[dict[str, str]]


class Jobs:
    """Handles a pool's messages."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        """``emit`` passes progress on."""
        self._emit = emit

    def handle(self, message: Message) -> Message:
        """Carry out the job that ``message["do"]`` names, and reply."""
        actions: dict[str, Callable[[Any], Mapping[str, Any]]]
        actions = {"survey": _survey, "fingerprint": _fingerprint, "run": self._run}
        return dict(actions[str(message["do"])](message))

    def blamed(self, error: BaseException, message: Message) -> type[ClgymError]:
        """See `clgym.engines.answer.Handler`: strategies name their failures themselves."""
        return GymFailed

    def _run(self, message: Mapping[str, Any]) -> RunSummary:
        """Carry out one run; its record stays in the folder, and the reply is a summary."""
        withheld.withhold([_rule(rule) for rule in message["withhold"]])
        request = _request(message)
        assert request.out is not None
        # A worker of a coordinator that was killed may still be running for a moment.
        with locked(request.out.parent / f".{request.out.name}.lock", wait=True):
            run(request, lambda event: self._emit(to_tree(event)))
            if not message["keep_state"]:
                (request.out / STATE).unlink(missing_ok=True)
        return run_summary(open_run(request.out))


def as_message(request: Request, withhold: list[withheld.Rule], keep_state: bool) -> Message:
    """A run as plain data; the pool adds the device."""
    # Any: fields of a request, of many types.
    values: dict[str, Any] = {**vars(request), "strategy_config": dict(request.strategy_config)}
    values["scenario_config"] = dict(request.scenario_config)
    for name in _PATHS:
        values[name] = None if values[name] is None else str(values[name])
    values["plugins"] = [str(path) for path in request.plugins]
    rules: list[Any] = [vars(rule) for rule in withhold]
    return {"do": "run", "request": values, "withhold": rules, "keep_state": keep_state}


def _rule(rule: Mapping[str, Any]) -> withheld.Rule:
    """Restore a rule, whose tuples were sent as lists."""
    return TypeAdapter(withheld.Rule).validate_python(rule)


def _request(message: Mapping[str, Any]) -> Request:
    values = {**message["request"], "device": message["device"]}
    for name in _PATHS:
        values[name] = None if values[name] is None else Path(values[name])
    values["plugins"] = tuple(Path(path) for path in values["plugins"])
    values["part"] = values["part"] and tuple(values["part"])
    return Request(**values)


def order_hash(record: Record) -> str:
    """SHA-256 of the class order of a record."""
    return sha256(canonical_json(record.result.class_order))


def _gpu_of(record: Record) -> str:
    """Model of the GPU; empty for a processor, whose model a plan does not fix."""
    where = record.environment
    return "" if where.device == "cpu" else where.device_name


def run_summary(run: StoredRun, with_conditions: bool = True) -> RunSummary:
    """Summary of a finished run for the coordinator; an audit compares it with the record.

    Args:
        run: The run.
        with_conditions: Whether to include engine and sandbox, which earlier ledgers do not state.
    """
    record, result = run.record, run.result
    summary: RunSummary = {
        "last_accuracy": result.last_accuracy,
        "average_incremental_accuracy": result.average_incremental_accuracy,
        "accuracy_matrix": result.accuracy_matrix,
        "images": record.cost.train_images,
        "seconds": record.cost.wall_seconds,
        "result": result_hash(record),
        "record": run.sha256,
        "fingerprints": [source.fingerprint for source in result.sources],
        "device_name": _gpu_of(record),
    }
    if with_conditions:
        summary["engine"] = record.environment.engine
        summary["sandbox"] = record.environment.sandbox
    if record.environment.read_files:
        summary["read_files"] = record.environment.read_files
    return summary


def _survey(message: Mapping[str, Any]) -> Message:
    """Survey both sides of a pair: fingerprints, overlap, and lengths of their streams."""
    pair, root = (
        ScenarioPair.model_validate(message["pair"]),
        message["data_root"] and Path(message["data_root"]),
    )
    sources = [load_source(side.source, root) for side in (pair.tuning, pair.evaluation)]
    sides = zip(sources, (pair.tuning, pair.evaluation), strict=True)
    overlap = compare(*(footprint(source, side.classes, side.half) for source, side in sides))
    named = [
        side.model_copy(update={"source": source.name})
        for source, side in zip(sources, (pair.tuning, pair.evaluation), strict=True)
    ]
    # Plans contain no paths, so from here on a source is known by its name.
    pair = named_by_sides(pair.model_copy(update={"tuning": named[0], "evaluation": named[1]}))
    streams = [
        make_stream(
            Request("", pair.scenario, None, {}, {**pair.config, **side.options()}, data_root=root)
        )
        for side in named
    ]
    setting = kind_of(streams[0])
    if setting in ("learn-then-shift", "deletion"):
        raise BadPlan(
            expected=f"a learning stream or an adaptation stream for {pair.name}",
            found="a stream of two phases, for which there is no criterion",
            fix="Tune the learner and the test-time method separately, each on its own pair",
        )
    images = check(pair, overlap, setting not in ("domain-incremental", "adaptation"))
    shifting = [stream for stream in streams if isinstance(stream, AdaptationStream)]
    if shifting:
        check_looks(pair, *map(looks, shifting))
        experiences = 1
    else:
        experiences = _experiences(pair, streams)
    flags = ([*sources[0].flags, *overlap.flags], list(sources[1].flags))
    facts = [
        {"name": s.name, "fingerprint": s.fingerprint, "flags": own}
        for s, own in zip(sources, flags, strict=True)
    ]
    return {
        "pair": pair.model_dump(mode="json"),
        "tuning": facts[0],
        "evaluation": facts[1],
        "overlap": overlap.describe(),
        "withheld_images": images,
        "experiences": experiences,
        "setting": setting,
    }


def _experiences(pair: ScenarioPair, streams: Sequence[Stream]) -> int:
    """Number of experiences of both streams.

    Raises:
        BadPlan: The streams differ in the number of classes per experience.
    """
    shapes = [[step.classes for step in stream.outline()] for stream in streams]
    if shapes[0] != shapes[1]:
        raise BadPlan(
            expected=f"streams of one shape on both sides of {pair.name}",
            found=f"classes per experience {shapes[0]} and {shapes[1]}",
            fix="Choose sides with the same number of classes",
        )
    return len(shapes[0])


def _fingerprint(message: Mapping[str, Any]) -> Message:
    """Load a source, and return its fingerprint."""
    root = message["data_root"] and Path(message["data_root"])
    return {"fingerprint": load_source(message["source"], root).fingerprint}


def rules_of(pair: ScenarioPair, evaluation: str, images: tuple[str, ...]) -> list[withheld.Rule]:
    """Rules that close everything that tuning on this pair must not read.

    Args:
        pair: Both sides.
        evaluation: Fingerprint of the evaluation source.
        images: Hashes of images that are in both sides.
    """
    side = pair.evaluation
    if not pair.halves:
        return [withheld.Rule(side.source, evaluation, None, images)]
    return [withheld.Rule(side.source, evaluation, side.classes, images, side.half)]
