"""A request that has been checked completely before any work starts.

Nothing is written here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from clgym import config as configs
from clgym import registry
from clgym._version import __version__
from clgym.config import Field
from clgym.data.sources import Source
from clgym.data.words import class_words, names_in_words
from clgym.engines import Channel
from clgym.errors import BadConfig, BadStream, Incompatible
from clgym.files import canonical_json, sha256
from clgym.gym.description import Description, ask_needs, ask_options, open_learner
from clgym.gym.given_images import GivenImages, given_images
from clgym.gym.numerics import check_budget, check_tests, numeric_facts, numerics_of
from clgym.gym.request import Request, cut, load_sources, make_scenario, preset_values
from clgym.messages import (
    BackboneIdentity,
    ChosenBackbone,
    ChosenPlugin,
    ChosenScenario,
    ChosenSource,
    Needs,
    Numerics,
    RunOutline,
    to_tree,
)
from clgym.models.pretraining import overlap
from clgym.registry.libraries import libraries_of
from clgym.results.numerics import NumericFacts
from clgym.results.record import BackboneFacts
from clgym.results.stored import open_run
from clgym.scenario import Scenario, Stream, kind_of, measured_twice
from clgym.streams.source_flags import with_stream_flags

__all__ = ["ResolvedRun", "method_hash", "resolve", "strategy_values"]


@dataclass(frozen=True, eq=False)
class ResolvedRun:
    """A checked request that can be carried out."""

    request: Request
    strategy: Description
    strategy_config: dict[str, object]
    needs: Needs
    scenario: ChosenPlugin
    stream: Stream
    sources: list[Source]
    total_columns: int
    """Number of classes of the stream, including those after the end of a partial run."""
    later_experiences: int
    """Number of the stream's experiences after the end of a partial run; 0 for a whole one."""
    threads: int
    numerics: Numerics
    images: GivenImages | None = None
    """Images of another source that the strategy needs; None if it needs none."""
    backbone: BackboneFacts | None = None
    """Identity of the pretrained backbone and the stream's classes contained in its pretraining
    data; None without a backbone."""
    asked_config: Mapping[str, object] = field(default_factory=dict[str, object])
    """Options that were given when the needs were requested, in which weights may be named by a
    path.
    """

    @property
    def key(self) -> str:
        """SHA-256 of everything that determines the result; an output folder belongs to one key."""
        return sha256(canonical_json([*self._identity(), *self.numeric_facts.words()]))

    @property
    def order_source(self) -> str:
        """SHA-256 from which the order of test images follows: the key without options for speed.

        Otherwise each of these options would draw another order, and a strategy whose answers
        depend on its batches would give as many results to choose from.
        """
        return sha256(canonical_json(self._identity()))

    def _identity(self) -> list[object]:
        identity: list[object] = [
            __version__,
            self.strategy.name,
            self.strategy.source_hash,
            self.strategy_config,
            self.stream.digest,
            self.request.seed,
            self.request.device.partition(":")[0],  # equal data may have several names
            self.threads,
            self.request.after and open_run(self.request.after).sha256,
        ]
        reference = self.request.reference
        identity += [open_run(reference).sha256] if reference is not None else []
        identity += [self.backbone.weights] if self.backbone else []
        identity += [self.images.facts()] if self.images else []
        identity += [self.strategy.read_files] if self.strategy.read_files else []
        identity += ["inline"] if self.request.engine == "inline" else []
        return identity

    @property
    def out(self) -> Path:
        """Output folder of the run."""
        if self.request.out is not None:
            return self.request.out
        name = f"{self.strategy.name}-{self.stream.name}-s{self.request.seed}-{self.key[:8]}"
        return Path("runs") / name.replace(":", "-").replace("/", "-")

    @property
    def libraries(self) -> frozenset[int]:
        """Numbers of the large libraries that the files of the strategy import."""
        names = [self.strategy.name, *_wrapped_names(self.strategy.fields, self.strategy_config)]
        found = [registry.find("strategies", name, self.request.plugins) for name in names]
        return frozenset[int]().union(*(libraries_of(entry.path) for entry in found))

    @property
    def numeric_facts(self) -> NumericFacts:
        """Block of the record about options for speed."""
        return numeric_facts(self.request, len(self.stream))

    @property
    def resize(self) -> int | None:
        """Side in pixels to which the stream resizes images; None if it has no such option."""
        side = self.scenario.config.get("resize")
        assert side is None or isinstance(side, int)
        return side

    def describe(self) -> RunOutline:
        """The plan as data, for ``--dry-run``."""
        stream, scenario = self.stream, self.scenario
        return RunOutline(
            strategy=ChosenPlugin(self.strategy.name, self.strategy_config),
            scenario=ChosenScenario(scenario.name, scenario.config, stream.setting, stream.digest),
            sources=tuple(ChosenSource(s.name, tuple(s.flags)) for s in self.sources),
            backbone=_chosen(self.backbone),
            image_shape=stream.image_shape,
            experiences=tuple(stream.outline()),
            seed=self.request.seed,
            device=self.request.device,
            threads=self.threads,
            numerics=" ".join(self.numeric_facts.words()),
            out=str(self.out),
        )


def resolve(request: Request, channel: Channel | None = None) -> ResolvedRun:
    """Check everything that can be checked before work starts; write nothing.

    Args:
        request: The request.
        channel: Channel for questions about the strategy; None opens one.

    Raises:
        ClgymError: The request cannot be carried out; the subclass says why.
    """
    entry = registry.find("strategies", request.strategy, request.plugins)
    scenario = make_scenario(request)
    sources = load_sources(scenario, request)
    stream, whole = cut(scenario, sources, request)
    threads, numerics = _threads(request), numerics_of(request, kind_of(stream) == "adaptation")
    check_tests(request, stream)
    if (seed := request.seed) < 0:
        raise BadConfig(expected="a seed of at least 0", found=str(seed), fix="Give 0 or more")
    asked = channel or open_learner(request)
    try:
        description = ask_options(entry, request.plugins, asked, request.strategy_config)
        values = strategy_values(description, scenario, request)
        root = request.data_root
        reply = ask_needs(entry.name, request.plugins, asked, values, request.device, root)
    finally:
        if channel is None:
            asked.close()
    asked_config = dict(values)
    values.update(reply.renamed)
    _check_needs(entry.name, reply.needs, stream)
    _check_measured(stream)
    check_budget(request, reply.needs)
    digest = method_hash(entry, description.fields, values, request.plugins)
    return ResolvedRun(
        request=request,
        strategy=replace(description, source_hash=digest),
        strategy_config=values,
        needs=reply.needs,
        images=given_images(reply.needs, sources, stream.image_shape[0], request),
        backbone=_backbone(reply.backbone, stream),
        scenario=scenario.describe(),
        stream=stream,
        sources=with_stream_flags(stream, sources),
        total_columns=whole.columns_after(len(whole) - 1),
        later_experiences=len(whole) - len(stream),
        threads=threads,
        asked_config=asked_config,
        numerics=numerics,
    )


def method_hash(
    entry: registry.PluginEntry,
    fields: Sequence[Field],
    values: Mapping[str, Any],
    plugins: Sequence[Path],
) -> str:
    """SHA-256 of the plugin's file; for a strategy that wraps others, over all their files."""
    names = _wrapped_names(fields, values)
    if not names:
        return entry.source_hash
    wrapped = [registry.find("strategies", name, plugins).source_hash for name in names]
    return sha256(canonical_json([entry.source_hash, *wrapped]))


def _wrapped_names(fields: Sequence[Field], values: Mapping[str, Any]) -> list[str]:
    """Names of the strategies that a strategy wraps."""
    return [values[f.name] for f in fields if f.kind == configs.WRAPS and values[f.name]]


def strategy_values(
    description: Description, scenario: Scenario, request: Request
) -> dict[str, object]:
    """Options of a strategy: defaults, overridden by the preset, overridden by the user."""
    shared = preset_values(description.fields, configs.values_of(scenario.config))
    given = {key.replace("-", "_"): v for key, v in request.strategy_config.items()}
    values = configs.resolve(description.fields, {**shared, **given}, description.name)
    plain = {k: list(cast(Sequence[object], v)) for k, v in values.items() if isinstance(v, tuple)}
    return {**values, **plain}


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(request: Request) -> int:
    threads = _usual_threads() if request.threads is None else request.threads
    if threads < 1:
        raise BadConfig(
            expected="at least one thread", found=str(threads), fix="Give --threads 1 or more"
        )
    return threads


def _usual_threads() -> int:
    """Number of cores, or ``OMP_NUM_THREADS`` if the user or a scheduler has set it."""
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(limit) if limit.isdecimal() and int(limit) > 0 else _cores()


def _backbone(identity: BackboneIdentity | None, stream: Stream) -> BackboneFacts | None:
    """Block of the record about a backbone: identity, and the stream's classes that it knows."""
    if identity is None:
        return None
    known = overlap(identity.pretraining, stream.class_order)
    return BackboneFacts.model_validate({**to_tree(identity), "overlap": known})


def _chosen(backbone: BackboneFacts | None) -> ChosenBackbone | None:
    """Convert the record's facts about a backbone to those of an event."""
    if backbone is None:
        return None
    return ChosenBackbone(
        name=backbone.name,
        weights=backbone.weights,
        pretraining=tuple(backbone.pretraining),
        licence=backbone.licence,
        check=backbone.check,
        width=backbone.width,
        parameters=backbone.parameters,
        overlap=tuple(backbone.overlap),
    )


def _check_measured(stream: Stream) -> None:
    """Refuse a stream whose first experience cannot be scored, or that scores images twice.

    Raises:
        BadStream: The first experience has no test rows, or a row belongs to two experiences.
    """
    if kind_of(stream) == "adaptation":
        return
    if not stream.measured_after(0):
        raise BadStream(
            expected="test images of the classes of the first experience",
            found="none",
            fix="Give a source whose test split has images of every class, or another --order-seed",
        )
    if twice := measured_twice(stream.steps):
        raise BadStream(
            expected="every unchanged test image to be scored in one experience only",
            found=f"{twice[1]} of them in experience {twice[0]} and an earlier one",
            fix="Score them in the experience in which they occur first, and leave `test` of a "
            "recurring experience empty",
        )


def _check_needs(name: str, needs: Needs, stream: Stream) -> None:
    """Refuse a pairing that cannot work.

    Raises:
        Incompatible: The stream does not provide what the strategy needs.
    """
    if needs.task_ids and not stream.gives_task_ids:
        raise Incompatible(
            expected=f"a task-incremental stream, since {name} needs task ids",
            found=f"{stream.name}, which is {stream.setting}",
            fix="Use a task-incremental scenario (`clgym list scenarios`)",
        )
    if stream.setting not in needs.settings:
        raise Incompatible(
            expected=f"a scenario type that {name} supports ({', '.join(needs.settings)})",
            found=f"{stream.name}, which is {stream.setting}",
            fix="Use another scenario (`clgym list scenarios`)",
        )
    if kind_of(stream) == "adaptation" and needs.classifier is None:
        raise Incompatible(
            expected=f"a strategy that starts from a classifier, which {stream.name} adapts",
            found=f"{name}, which declares none",
            fix="Derive it from AdaptStrategy, or declare Needs(classifier=...)",
        )
    if stream.setting == "pretraining" and (needs.total_classes or needs.class_names):
        raise Incompatible(
            expected=f"a strategy that needs no facts about classes on {stream.name}",
            found=f"{name}, which needs their number in advance or their names",
            fix="Remove total_classes and class_names from its needs, or use a stream with labels",
        )
    if needs.class_names and class_words(stream.class_order) is None:
        raise Incompatible(
            expected=f"a source whose classes have names, which {name} needs",
            found=f"{stream.name} with the classes {names_in_words(stream.class_order)}",
            fix="Name the classes: `classes` of an npz file, the folders' names, or the classes of "
            "an ImageSet",
        )
    if (needs.past_data or needs.rereads) and stream.single_pass:
        raise Incompatible(
            expected=f"a stream whose rows may be read more than once, as {name} needs",
            found=f"{stream.name}, which is single-pass",
            fix="Use a scenario that is not online",
        )
