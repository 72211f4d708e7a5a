"""The learner's side of a run: it trains, predicts and saves on request of the gym.

It lives in a worker process. It maps the images, receives rows and training labels of one
experience at a time, and replies with logits. A label of a test row never enters this process.
"""

import copy
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clgym import registry
from clgym.data.experience import Log, Report
from clgym.data.generators import (
    generator_states,
    seed_generators,
    set_generators,
    untouched_generators,
)
from clgym.engines.channel import Message
from clgym.learner.adaptation import build_resources, to_float
from clgym.learner.assembly import (
    make_strategy,
    plugin_entry,
)
from clgym.learner.describing import describe_needs, describe_options, usable_device
from clgym.learner.forgetting import check_memory_is_clean, remove_forgotten
from clgym.learner.logged import NumberLog, OwnNumbers
from clgym.learner.numerics import NumericMode
from clgym.learner.oversight import Oversight
from clgym.learner.probing import Prober
from clgym.learner.provenance import clean_surroundings, files_read, watch_files
from clgym.learner.replies import (
    checked_costs,
    checked_heads,
    checked_logits,
    checked_progress,
    own_numbers,
)
from clgym.learner.representing import features_in_batches
from clgym.learner.rows import RowImages
from clgym.learner.state import (
    InsideState,
    LearnerState,
    read_learner,
    state_fingerprint,
    write_state,
)
from clgym.learner.torch_settings import be_deterministic, peak, start_measuring
from clgym.messages import (
    Adapt,
    Adapted,
    CheckpointSaved,
    ClassifierIdentity,
    DescribeNeeds,
    DescribeOptions,
    EndTest,
    Event,
    ExperienceRows,
    ExperienceTrained,
    FeaturesComputed,
    FeaturesFilled,
    FillFeatures,
    Forget,
    Forgotten,
    Load,
    Loaded,
    NumbersLogged,
    Predict,
    Predicted,
    PredictionProgress,
    Reply,
    Represent,
    Represented,
    Request,
    Save,
    Saved,
    Start,
    Started,
    StreamFacts,
    TestDue,
    TestEnded,
    Train,
    build_checks,
    parse_request,
    to_tree,
)
from clgym.models.features import FrozenFeatures
from clgym.registry.libraries import LIBRARIES
from clgym.strategy import Batch, Experience, ForgetRequest, Memory, Strategy, StreamInfo

__all__ = ["Learner", "info_from"]

_EVENT_SECONDS = 0.2


def info_from(facts: StreamFacts, memory: Memory) -> StreamInfo:
    """Facts that a strategy may know in advance, from the gym's plain data."""
    return StreamInfo(
        image_shape=facts.image_shape,
        setting=facts.setting,
        device=torch.device(facts.device),
        seed=facts.seed,
        mean=facts.mean,
        std=facts.std,
        total_columns=facts.total_columns,
        total_experiences=facts.total_experiences,
        single_pass=facts.single_pass,
        memory=memory,
    )


class Learner:
    """Handles the gym's messages; ``handle`` is its one entry point."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        """``emit`` sends an event, as plain data, while a message is being worked on."""
        self._send = emit
        self._own_numbers = OwnNumbers()
        self._untested: str | None = None
        self._filled: FrozenFeatures | None = None
        clean_surroundings()
        watch_files()

    @classmethod
    def warm_up(cls) -> None:
        """Do what every learner does first; the server that they are forked from does it once."""
        importlib.import_module("numpy.ma")  # the first np.unique would
        build_checks()
        registry.entries("strategies")

    @classmethod
    def prepare(cls, library: int) -> None:
        """Load one of the `LIBRARIES`, in the server that learners are forked from.

        Once a learner has loaded one, those that follow have it at once. It names it by number: it
        cannot make the server import anything else.
        """
        importlib.import_module(LIBRARIES[library])

    def _libraries(self) -> tuple[int, ...]:
        return tuple(i for i, name in enumerate(LIBRARIES) if name in sys.modules)

    def handle(self, message: Message) -> Message:
        """Check a message, do what it asks for, and reply; both as plain data and arrays.

        Raises:
            ClgymError: what is wrong with the message, or with what the strategy made of it.
        """
        return to_tree(self._dispatch(parse_request(message)))

    @property
    def strategy(self) -> Strategy:
        """The strategy at work, once `Start` has built it; for simulations in one process."""
        return self._strategy

    def _dispatch(self, request: Request) -> Reply:
        """The reply to a request."""
        match request:
            case DescribeOptions():
                return describe_options(request)
            case DescribeNeeds():
                return replace(describe_needs(request), libraries=self._libraries())
            case Start():
                return self._start(request)
            case Train():
                return self._train(request)
            case Predict():
                return self._predict(request)
            case Represent():
                return self._represent(request)
            case EndTest():
                return self._end_test()
            case FillFeatures():
                return self._fill_features(request)
            case Adapt():
                return self._adapt(request)
            case Forget():
                return self._forget(request)
            case Save():
                return self._save(request)
            case Load():
                self._restore(read_learner(request.path))
                return Loaded()

    def _emit(self, event: Event) -> None:
        self._send(to_tree(event))

    def _start(self, request: Start) -> Started:
        """Build the strategy for one stream."""
        device = usable_device(request.info.device)
        be_deterministic(request.threads)
        start_measuring(device)
        self._plugin = plugin_entry(request.strategy, request.plugins)
        self._strategy = make_strategy(request.strategy, request.config, request.plugins)
        self._facts = request.info
        if (earlier := vars(self).get("_info")) is not None:
            earlier.memory.keep(torch.arange(0))  # a strategy of the phase before may be kept alive
        self._info = info_from(request.info, Memory(self._strategy.needs.memory))
        self._info = replace(self._info, log=self._own_numbers)
        self._rows = RowImages(request, self._info.image_shape[0], device)
        self._scale = self._rows.scale
        self._features = self._frozen_features()
        self._resize, self._passes = request.resize, None
        classifier = None if request.adaptation is None else self._take_resources(request, device)
        seed_generators(self._info.seed, "setup")
        self._strategy.setup(self._info)
        self._numerics = NumericMode(request.numerics, device)
        self._numerics.take(self._strategy)
        self._oversight = Oversight(self._strategy, self._info, request, self._scale)
        self._memory_at_start = copy.deepcopy(self._info.memory.state_dict())
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        return Started(device_name=name, classifier=classifier, libraries=self._libraries())

    def _frozen_features(self) -> FrozenFeatures | None:
        """What fills `Batch.features`, for a strategy that asked for it."""
        needs = self._strategy.needs
        if not needs.features:
            return None
        assert needs.backbone is not None
        return self._rows.features(needs.backbone, self._report_features)

    @property
    def _adapts(self) -> bool:
        return self._info.setting == "adaptation"

    def _report_features(self, images: int, total: int) -> None:
        self._emit(FeaturesComputed(images=images, total=total))

    def _take_resources(self, request: Start, device: torch.device) -> ClassifierIdentity | None:
        """Add to the info what an adaptation stream offers; the classifier's identity."""
        self._scale = 1 / 255  # of the images that come over the wire
        resources = build_resources(request, self._strategy.needs, device, self._reporter())
        self._passes = resources.passes
        self._info = replace(
            self._info,
            batch_size=resources.batch_size,
            class_names=resources.class_names,
            source_data=resources.source_data,
            classifier=resources.classifier,
        )
        return resources.identity

    def _train(self, request: Train) -> ExperienceTrained:
        """Train on one experience, from its beginning or from a state saved inside it."""
        started = time.perf_counter()
        seed_generators(self._info.seed, "train", experience=request.index)
        prober, log = self._prober(request), NumberLog()
        clock = _Clock(request.checkpoint_seconds)
        # Not the request itself, for it holds rows and labels: the strategy gets this function.
        index, checkpoint = request.index, request.checkpoint

        def safe_point() -> None:
            images = experience.images_so_far
            prober.visit(images)
            if clock.due():
                told = InsideState(
                    images=images, probed=prober.state_dict(), logged=log.state_dict()
                )
                self._write(checkpoint, told)
                self._emit(CheckpointSaved(experience=index))

        experience = self._made_experience(request, log, safe_point)
        if request.resume is not None:
            state = read_learner(request.resume)
            self._restore(state)
            if "inside" in state:
                experience.go_on_from(state["inside"]["images"])
                prober.load_state_dict(state["inside"]["probed"])
                log.load_state_dict(state["inside"]["logged"])
        self._oversight.note_experience(request.index, experience.pixels)
        self._own_numbers.experience = experience
        try:
            with self._numerics.active():
                self._strategy.train(experience)
        finally:
            experience.close()
            self._own_numbers.experience = None
        self._tell_news(request.index, log)
        seconds = time.perf_counter() - started - prober.seconds
        return ExperienceTrained(
            seconds=seconds,
            images=experience.images_so_far,
            logged=log.everything(),
        )

    def _prober(self, request: Train) -> Prober:
        """What has the state tested inside the experience."""
        probe = request.probe
        return Prober(
            probe,
            write=lambda: None if probe is None else self._write(probe.state),
            tell=lambda images: self._emit(TestDue(images=images)),
        )

    def _fingerprint(self) -> str:
        """Return a fingerprint of what the learner keeps, to tell whether testing changes it."""
        memory = self._info.memory
        kept = {"seen": memory.seen, "columns": memory.columns()}
        return state_fingerprint({"strategy": self._strategy.state_dict(), "memory": kept})

    def _made_experience(
        self,
        request: Train | ExperienceRows,
        log: NumberLog,
        safe_point: Callable[[], None],
        place: int | None = None,
    ) -> Experience:
        """Rows of a message; progress is reported under ``place`` if it is given."""
        pixels = self._rows.of_experience(request)
        features = None
        if self._features is not None:
            where = np.repeat(np.arange(len(request.groups)), request.counts)
            features = self._features.of(request.groups, request.rows, where)
        return Experience(
            request.index,
            pixels,
            None if (own := request.labels) is None else torch.as_tensor(own, device=pixels.device),
            classes=request.classes,
            columns=request.num_seen_classes,
            seed=self._info.seed,
            scale=self._scale,
            task=request.task,
            task_columns=request.task_columns,
            single_pass=self._info.single_pass,
            report=self._reporter(place),
            log=self._logger(request.index if place is None else place, log),
            safe_point=safe_point,
            features=features,
            class_names=request.class_names,
        )

    def _reporter(self, place: int | None = None) -> Report:
        clock = _Clock(_EVENT_SECONDS)

        def report(event: Mapping[str, object]) -> None:
            event = event if place is None else {**event, "experience": place}
            if own := own_numbers(event):
                self._own_numbers(own)
            if clock.due() or event.get("step") == event.get("steps"):
                self._emit(checked_progress(event))

        return report

    def _logger(self, experience: int, log: NumberLog) -> Log:
        clock = _Clock(_EVENT_SECONDS)

        def take(numbers: Mapping[str, object], images: int, epoch: int, step: int) -> None:
            log.add(numbers, images, epoch, step)
            if clock.due():
                self._tell_news(experience, log)

        return take

    def _tell_news(self, experience: int, log: NumberLog) -> None:
        if (numbers := log.news()) is not None:
            self._emit(NumbersLogged(experience=experience, numbers=numbers))

    def _predict(self, request: Predict) -> Predicted:
        """Logits of some test rows, float32 [n, classes], in the order given."""
        if self._untested is None:
            self._untested = self._fingerprint()
        started = time.perf_counter()
        by_head: dict[str, np.ndarray] = {}
        logits = self._answers(request, by_head)
        seconds = time.perf_counter() - started
        return Predicted(logits=logits, seconds=seconds, by_head=by_head)

    def _answers(self, request: Predict, by_head: dict[str, np.ndarray]) -> np.ndarray:
        """Those logits; ``by_head`` takes those of the strategy's heads, if they are asked for."""
        size, rows = request.batch_size, request.rows
        logits = np.empty((len(rows), request.num_seen_classes), dtype=np.float32)
        features = self._known_features(request)
        clock = _Clock(_EVENT_SECONDS)
        with torch.no_grad(), untouched_generators(self._info.device), self._numerics.active():
            for start in range(0, len(rows), size):
                part = slice(start, start + size)
                batch = self._test_batch(request, part, features)
                answer = self._oversight.predict(batch)
                logits[part] = checked_logits(answer, "predict", len(batch), logits.shape[1])
                if request.by_head:
                    told = self._strategy.predict_by_head(batch)
                    for name, found in checked_heads(told, logits[part]):
                        by_head.setdefault(name, np.empty_like(logits))[part] = found
                if clock.due():
                    self._emit(PredictionProgress(images=start, total=len(rows)))
        return logits

    def _represent(self, request: Represent) -> Represented:
        """Features of some rows of both splits, float32 [n, width], in the order given."""
        if self._untested is None:
            self._untested = self._fingerprint()
        started, clock = time.perf_counter(), _Clock(_EVENT_SECONDS)
        count = len(request.rows)

        def ask(rows: slice) -> Tensor:
            return self._oversight.represent(Batch(self._rows.of_test(request, rows)))

        def report(done: int) -> None:
            if clock.due():
                self._emit(PredictionProgress(images=done, total=count))

        with torch.no_grad(), untouched_generators(self._info.device):
            features = features_in_batches(count, request.batch_size, ask, report)
        return Represented(features=features, seconds=time.perf_counter() - started)

    def _end_test(self) -> TestEnded:
        """Say what the test did to the learner, and what it took."""
        return TestEnded(
            changed=self._untested not in (None, self._fingerprint()),
            holdings=self._oversight.holdings(),
            peak_memory_bytes=peak(self._info.device),
            read_files=files_read(self._plugin),
        )

    def _fill_features(self, request: FillFeatures) -> FeaturesFilled:
        """Compute features of some rows, in a process that loads no plugin."""
        if self._filled is None:
            device = usable_device(request.start.info.device)
            be_deterministic(request.start.threads)
            images = RowImages(request.start, request.start.info.image_shape[0], device)
            self._filled = images.features(request.backbone, self._report_features)
        self._filled.fill(request.groups, request.rows, request.where)
        return FeaturesFilled()

    def _adapt(self, request: Adapt) -> Adapted:
        """Answer one unlabelled batch and learn from it.

        Draws are keyed by the batch's number, so that a resumed run goes on alike.
        """
        started = time.perf_counter()
        seed_generators(self._info.seed, "adapt", step=request.number)
        if request.reset:
            self._strategy.reset()
            self._info.memory.load_state_dict(
                copy.deepcopy(self._memory_at_start), self._info.device
            )
        before, log = self._counted(), NumberLog()
        images = to_float(request.images, self._resize, self._info.device)
        self._own_numbers.log = log
        ask = partial(self._strategy.adapt, Batch(images))
        with self._numerics.active():
            answer = self._oversight.adapt(images, request.number, ask)
        self._own_numbers.log = None
        logits = checked_logits(answer, "adapt", len(images), request.num_seen_classes)
        after = self._counted()
        return Adapted(
            logits=logits * np.float32(self._strategy.confidence_scale),
            seconds=time.perf_counter() - started,
            forward=after[0] - before[0],
            backward=after[1] - before[1],
            logged=log.everything(),
        )

    def _forget(self, request: Forget) -> Forgotten:
        """Put rows out of the strategy's reach, and have it forget them."""
        started = time.perf_counter()
        seed_generators(self._info.seed, "forget", step=request.number)

        log = self._own_numbers.log = NumberLog()

        def made(rows: Sequence[ExperienceRows]) -> list[Experience]:
            return [self._made_experience(part, log, lambda: None, request.place) for part in rows]

        parts, rest = made(request.forgotten), request.retained
        retained = None if rest is None else made(rest)
        wanted = ForgetRequest(
            request.number,
            request.kind,
            request.classes,
            request.num_seen_classes,
            parts,
            retained,
            self._info.seed,
        )
        try:
            removed = remove_forgotten(self._info.memory, wanted)
            with self._numerics.active():
                self._strategy.forget(wanted)
            check_memory_is_clean(self._info.memory, wanted)
        finally:
            wanted.close()
            self._own_numbers.log = None
        return Forgotten(
            seconds=time.perf_counter() - started,
            removed=removed,
            images=sum(experience.images_so_far for experience in [*parts, *(retained or [])]),
            logged=log.everything(),
        )

    def _counted(self) -> tuple[int, int]:
        """Images through the classifier's backbone so far, forward and backward."""
        return (0, 0) if self._passes is None else (self._passes.forward, self._passes.backward)

    def _known_features(self, request: Predict) -> Tensor | None:
        """Features of all rows: computed batch by batch, most would go in padded batches."""
        if self._features is None:
            return None
        return self._features.of(request.groups, request.rows, request.where)

    def _test_batch(self, request: Predict, part: slice, features: Tensor | None) -> Batch:
        """Some of the rows to predict."""
        images = self._rows.of_test(request, part)
        known = None if features is None else features[part]
        return Batch(images, task=request.task, features=known)

    def _save(self, request: Save) -> Saved:
        """Write the state at an experience's boundary, and say how large things are."""
        strategy, written = self._strategy, self._write(request.path)
        return Saved(
            bytes=written,
            holdings=self._oversight.holdings() if self._adapts else None,
            stored_samples=len(self._info.memory),
            memory_bytes=self._info.memory.size,
            kept_images=self._oversight.kept_images(Learner),
            peak_memory_bytes=peak(self._info.device),
            own_costs=checked_costs(strategy.costs()),
            read_files=files_read(self._plugin),
        )

    def _write(self, path: Path, inside: InsideState | None = None) -> int:
        facts = {field.name: getattr(self._facts, field.name) for field in fields(self._facts)}
        state: LearnerState = {
            "strategy": self._strategy.state_dict(),
            "memory": self._info.memory.state_dict(),
            "generators": generator_states(self._info.device),
            "facts": {**facts, "scale": self._scale},
        }
        if self._adapts:
            state["serving"] = self._oversight.serving()
        if (signatures := self._oversight.signatures()) is not None:
            state["signatures"] = signatures
        if inside is not None:
            state["inside"] = inside
        return len(write_state(path, state))

    def _restore(self, state: LearnerState) -> None:
        self._info.memory.load_state_dict(state["memory"], self._info.device)
        self._strategy.load_state_dict(state["strategy"])
        # States of earlier versions have neither.
        self._oversight.restore(state.get("signatures", {}), state.get("serving", []))
        set_generators(state["generators"], self._info.device)


class _Clock:
    """Returns True at most once per period of some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
