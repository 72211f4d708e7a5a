"""A user's request for a run, and the making of its stream."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, SupportsIndex, cast

from clgym import config as configs
from clgym import registry
from clgym.config import Field
from clgym.data import withheld
from clgym.data.cards import CARDS
from clgym.data.locate import locate
from clgym.data.sources import Source, load_source
from clgym.engines import Engine, Sandbox
from clgym.errors import BadConfig
from clgym.scenario import Scenario, Stream, kind_of

__all__ = [
    "FROM_PRESET",
    "Request",
    "Sandbox",
    "check_data",
    "cut",
    "load_sources",
    "make_scenario",
    "make_stream",
    "preset_values",
    "scenario_fields",
]

FROM_PRESET = ("network", "memory_size", "model")
"""Options of a strategy, or of a strategy that it wraps, whose defaults a scenario sets."""


@dataclass(frozen=True)
class Request:
    """Request for one run."""

    strategy: str
    scenario: str
    source: str | None = None
    """Source that replaces the preset's."""
    strategy_config: Mapping[str, object] = field(default_factory=dict[str, object])
    scenario_config: Mapping[str, object] = field(default_factory=dict[str, object])
    seed: int = 0
    """Seed of the learner."""
    order_seed: int | None = None
    """Seed of the class order; None means the preset's order."""
    device: str = "cpu"
    threads: int | None = None
    """Number of torch threads; None means ``OMP_NUM_THREADS``, or all cores where that is not set.
    It may change the last digits of a result."""
    arithmetic: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Arithmetic of training and prediction: single precision, TF32 (GPUs only), or autocast to
    bfloat16."""
    channels_last: bool = False
    """Whether convolutions use the channels-last memory format."""
    compile: bool = False
    """Whether networks are compiled by ``torch.compile``."""
    optimizer_kernel: Literal["auto", "single", "foreach", "fused"] = "auto"
    """How torch's optimizers take a step; auto leaves the choice to torch."""
    eval_batch: int | None = None
    """Number of test images in a batch; None means 256."""
    evaluate_every: int | Literal["last"] = 1
    """Number of experiences from one test to the next, or ``last`` for one test at the end; the
    last experience is always tested."""
    engine: Engine = "process"
    sandbox: Sandbox = "auto"
    """Sandbox of the learner's process: Landlock, Bubblewrap, or the first of them that the system
    has, if any (auto). The record states what was enforced."""
    timeout_minutes: float | None = None
    """Time limit in minutes for training on an experience and for predicting after it, each; on
    adaptation streams per batch. None means no limit."""
    out: Path | None = None
    """Output folder; None means a new folder below ``runs/``."""
    data_root: Path | None = None
    plugins: tuple[Path, ...] = ()
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints inside an experience, if the strategy offers safe points."""
    score_on: Literal["test", "valid"] = "test"
    """Rows that are scored: the test split, or the training rows that ``validation`` holds out."""
    part: tuple[int, int] | None = None
    """Range of experiences to run, as first and end; None means all."""
    order_key: str | None = None
    """Key of the order in which test rows are sent, from the record of a run that is repeated;
    None: derived from the run and this installation's secret."""
    after: Path | None = None
    """Folder of a finished run of the first experiences, whose learner continues here."""
    reference: Path | None = None
    """On deletion streams: folder of a finished run that was trained anew without the rows, to
    whose predictions distances are measured; None means no distances.
    """

    def __post_init__(self) -> None:
        """Turn whole numbers of other libraries into ints."""
        for name in ("seed", "order_seed"):
            value = getattr(self, name)
            if value is not None or name == "seed":
                object.__setattr__(self, name, _whole(value, name))


def _whole(value: object, name: str) -> int:
    """A seed as an int.

    Raises:
        BadConfig: It is no whole number.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(cast(SupportsIndex, value))
    except TypeError:
        pass
    raise BadConfig(
        expected=f"{name} to be a whole number", found=repr(value), fix="Give a whole number"
    )


def preset_values(fields: Sequence[Field], preset: Mapping[str, object]) -> dict[str, object]:
    """Defaults that a scenario sets for a strategy, by option.

    Args:
        fields: Options of the strategy, and of those that it wraps.
        preset: Options of the scenario.
    """
    last = {field.name: field.name.rpartition(".")[2] for field in fields}
    shared = {n: preset[k] for n, k in last.items() if k in FROM_PRESET and k in preset}
    epochs = preset.get("default_epochs", 1)
    single = [f.name for f in fields if last[f.name] == "epochs" and f.default == 1]
    return shared | ({} if epochs == 1 else dict.fromkeys(single, epochs))


def scenario_fields(name: str, plugins: Sequence[Path] = ()) -> list[Field]:
    """Options of a scenario, with the preset's values as defaults.

    Raises:
        UnknownName: There is no scenario called ``name``.
    """
    cls, preset = _scenario_class(name, plugins)
    fields: list[Field] = []
    for f in configs.fields_of(cls.Config):
        given = f.name in preset
        default = f.check(preset[f.name], name) if given else f.default
        fields.append(replace(f, default=default, required=f.required and not given))
    return fields


def make_scenario(request: Request) -> Scenario:
    """Create the scenario with its options resolved."""
    cls, preset = _scenario_class(request.scenario, request.plugins)
    given = {key.replace("-", "_"): v for key, v in request.scenario_config.items()}
    if request.source is not None:
        given["source"] = request.source
    config = configs.build(cls.Config, {**preset, **given}, request.scenario)
    scenario = cls(config, request.scenario)
    scenario.data_root = request.data_root
    return scenario


def make_stream(request: Request) -> Stream:
    """Load the request's sources and create its stream."""
    scenario = make_scenario(request)
    stream = cut(scenario, load_sources(scenario, request), request)[0]
    if not kind_of(stream).endswith("-incremental"):  # not a learning stream
        return stream
    return replace(stream, preset=configs.values_of(scenario.config))


def load_sources(scenario: Scenario, request: Request) -> list[Source]:
    """Load the sources of a stream.

    Raises:
        Withheld: The sources include classes or images of another phase.
    """
    names = scenario.source_names()
    withheld.check_classes(names, getattr(scenario.config, "classes", None))
    withheld.check_half(names, getattr(scenario.config, "rows", "all"))
    return [load_source(name, request.data_root, plugins=request.plugins) for name in names]


def check_data(request: Request) -> None:
    """Check that the files of known sources exist, without reading them.

    Raises:
        MissingData: Files are missing.
    """
    for name in make_scenario(request).source_names():
        if name in CARDS:
            locate(name, request.data_root, None)


def cut(scenario: Scenario, sources: list[Source], request: Request) -> tuple[Stream, Stream]:
    """The requested stream, and the stream from the same beginning to the end of the whole one."""
    stream = scenario.stream(sources, request.order_seed)
    if request.part is not None:
        stream = stream.part(request.part[0], len(stream))
    whole = stream
    if request.part is not None:
        stream = stream.part(0, request.part[1] - request.part[0])
    return stream if request.score_on == "test" else stream.on_validation(), whole


def _scenario_class(
    name: str, plugins: Sequence[Path]
) -> tuple[type[Scenario], Mapping[str, object]]:
    entry = registry.find("scenarios", name, plugins)
    cls = registry.load_class(entry, Scenario)
    return cls, entry.presets.get(name.replace("_", "-"), {})
