"""The learner's side of a run: it trains, predicts and saves on request of the gym.

It runs in a worker process. It maps the images, receives rows and training labels of one experience
at a time, and replies with logits. A label of a test row never enters this process.
"""

import copy
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from clgym import registry
from clgym.data.generators import seed_generators
from clgym.engines.channel import Message
from clgym.errors import ClgymError, GymFailed
from clgym.learner.adaptation import build_resources, fill_classifiers, to_float
from clgym.learner.answering import Answers
from clgym.learner.assembly import make_strategy, plugin_entry
from clgym.learner.blame import blamed
from clgym.learner.describing import (
    describe_needs,
    describe_options,
    describe_reads,
    usable_device,
)
from clgym.learner.experiences import ExperienceMaker, info_from
from clgym.learner.flops import FlopSampler, load_formulas
from clgym.learner.forgetting import check_memory_is_clean, remove_forgotten
from clgym.learner.logged import NumberLog
from clgym.learner.numerics import NumericMode
from clgym.learner.oversight import Oversight
from clgym.learner.probing import Prober
from clgym.learner.processor import ProcessorTime, identity_of_device, idle_memory, name_of_device
from clgym.learner.provenance import clean_surroundings, files_read, watch_files
from clgym.learner.replies import checked_costs, checked_logits
from clgym.learner.reporting import Clock, Reporting
from clgym.learner.rows import RowImages
from clgym.learner.saving import Keeper
from clgym.learner.state import InsideState, read_learner
from clgym.learner.torch_settings import be_deterministic, peak, start_measuring
from clgym.messages import (
    Adapt,
    Adapted,
    CheckpointSaved,
    ClassifierIdentity,
    DescribeNeeds,
    DescribeOptions,
    DescribeReads,
    EndTest,
    Event,
    ExperienceRows,
    ExperienceTrained,
    FillClassifiers,
    Filled,
    FillFeatures,
    Forget,
    Forgotten,
    Load,
    Loaded,
    Predict,
    Predicted,
    Reply,
    Represent,
    Represented,
    Request,
    Save,
    Saved,
    Start,
    Started,
    TestDue,
    TestEnded,
    Train,
    build_checks,
    parse_request,
    to_tree,
)
from clgym.models.features import FrozenFeatures
from clgym.registry.libraries import LIBRARIES
from clgym.strategy import Batch, Experience, ForgetRequest, Memory, Strategy

__all__ = ["Learner"]


class Learner:
    """Handles the gym's messages; ``handle`` is its one entry point."""

    def __init__(self, emit: Callable[[Message], None]) -> None:
        """``emit`` sends an event, as plain data, while a message is being worked on."""
        self._send, self._processor = emit, ProcessorTime()
        self._reporting = Reporting(self._emit)
        self._own_numbers = self._reporting.own_numbers
        self._untested: str | None = None
        self._filled: FrozenFeatures | None = None
        clean_surroundings()
        watch_files()

    @classmethod
    def warm_up(cls) -> None:
        """Do once, in the server that learners are forked from, the first work of every learner."""
        importlib.import_module("numpy.ma")  # otherwise the first call of np.unique would import it
        build_checks()
        load_formulas()
        registry.entries("strategies")

    @classmethod
    def prepare(cls, library: int) -> None:
        """Load one of the `LIBRARIES`, in the server that learners are forked from.

        After one learner has loaded a library, later learners have it at once. A library is named
        by its number, so that a learner cannot make the server import anything else.
        """
        importlib.import_module(LIBRARIES[library])

    def _libraries(self) -> tuple[int, ...]:
        return tuple(i for i, name in enumerate(LIBRARIES) if name in sys.modules)

    def handle(self, message: Message) -> Message:
        """Validate a message, carry it out, and reply; both are plain data and arrays.

        Raises:
            ClgymError: The message is not valid, or the strategy failed.
        """
        with self._processor.running():
            return to_tree(self._dispatch(parse_request(message)))

    def blamed(self, error: BaseException, message: Message) -> type[ClgymError]:
        """See `clgym.engines.answer.Handler`: no plugin is loaded to fill the cache."""
        if str(message["do"]).startswith("fill"):
            return GymFailed
        entry = vars(self).get("_plugin")
        return blamed(error, entry and entry.path)

    @property
    def strategy(self) -> Strategy:
        """The strategy, after `Start` has built it; for simulations in one process."""
        return self._strategy

    def _dispatch(self, request: Request) -> Reply:
        """The reply to a request."""
        match request:
            case DescribeOptions():
                return describe_options(request)
            case DescribeNeeds():
                return replace(describe_needs(request), libraries=self._libraries())
            case DescribeReads():
                return describe_reads(request)
            case Start():
                return self._start(request)
            case Train():
                return self._train(request)
            case Predict() | Represent():
                return self._answer(request)
            case EndTest():
                return self._end_test()
            case FillFeatures():
                return self._fill_features(request)
            case FillClassifiers():
                return fill_classifiers(request, self._reporting.progress())
            case Adapt():
                return self._adapt(request)
            case Forget():
                return self._forget(request)
            case Save():
                return self._save(request)
            case Load():
                self._keeper.restore(read_learner(request.path))
                return Loaded()

    def _emit(self, event: Event) -> None:
        with self._processor.standing():
            self._send(to_tree(event))

    def _start(self, request: Start) -> Started:
        """Build the strategy for one stream."""
        device = usable_device(request.info.device)
        be_deterministic(request.threads)
        start_measuring(device)
        idle = idle_memory(device)
        self._plugin = plugin_entry(request.strategy, request.plugins)
        self._strategy = make_strategy(request.strategy, request.config, request.plugins)
        if (earlier := vars(self).get("_info")) is not None:
            earlier.memory.keep(torch.arange(0))  # a strategy of the phase before may be kept alive
        memory = Memory(self._strategy.needs.memory)
        self._info = info_from(request.info, memory, request.images)
        self._info = replace(self._info, log=self._own_numbers)
        self._rows = RowImages(request, self._info.image_shape[0], device)
        self._scale = self._rows.scale
        self._resize, self._passes = request.resize, None
        classifier = None if request.adaptation is None else self._take_resources(request, device)
        seed_generators(self._info.seed, "setup")
        self._strategy.setup(self._info)
        self._numerics = NumericMode(request.numerics, device)
        self._numerics.take(self._strategy)
        self._oversight = Oversight(self._strategy, self._info, request, self._scale)
        self._keeper = Keeper(
            self._strategy, self._info, request.info, self._scale, self._oversight
        )
        self._experiences = ExperienceMaker(self._info, self._rows, self._scale, self._reporting)
        self._answers = Answers(self._strategy, self._oversight, self._rows, self._numerics, device)
        self._memory_at_start = copy.deepcopy(self._info.memory.state_dict())
        return Started(
            device_name=name_of_device(device),
            device_uuid=identity_of_device(device),
            idle_memory_bytes=idle,
            classifier=classifier,
            libraries=self._libraries(),
        )

    @property
    def _adapts(self) -> bool:
        return self._info.setting == "adaptation"

    def _take_resources(self, request: Start, device: torch.device) -> ClassifierIdentity | None:
        """Add resources of an adaptation stream to the info; return the classifier's identity."""
        self._scale = 1 / 255  # for images that the gym sends
        resources = build_resources(
            request, self._strategy.needs, device, self._reporting.progress()
        )
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
        clock = Clock(request.checkpoint_seconds)
        # The strategy gets this function, which must not refer to the request with rows and labels.
        index, checkpoint = request.index, request.checkpoint

        def safe_point() -> None:
            images = experience.images_so_far
            prober.visit(images)
            if clock.due():
                told = InsideState(
                    images=images, probed=prober.state_dict(), logged=log.state_dict()
                )
                self._keeper.write(checkpoint, told)
                self._emit(CheckpointSaved(experience=index))

        flops = FlopSampler(watches=not self._numerics.compiles)
        experience = self._experiences.make(request, log, safe_point, on_batch=flops.begin_step)
        if request.resume is not None:
            state = read_learner(request.resume)
            self._keeper.restore(state)
            if "inside" in state:
                experience.go_on_from(state["inside"]["images"])
                prober.load_state_dict(state["inside"]["probed"])
                log.load_state_dict(state["inside"]["logged"])
        self._oversight.note_experience(request.index, experience.pixels)
        self._own_numbers.experience = experience
        try:
            with self._numerics.active():
                self._strategy.train(experience)
            if request.resume is None:
                self._numerics.check_used(self._strategy, request.index)
        finally:
            experience.close()
            operations = flops.finish(experience.images_so_far)
            self._own_numbers.experience = None
        self._reporting.news(request.index, log)
        seconds = time.perf_counter() - started - prober.seconds
        return ExperienceTrained(
            seconds=seconds,
            images=experience.images_so_far,
            flops=operations,
            logged=log.everything(),
        )

    def _prober(self, request: Train) -> Prober:
        """Object that lets the gym test the state inside the experience."""
        probe = request.probe
        return Prober(
            probe,
            write=lambda: None if probe is None else self._keeper.write(probe.state),
            tell=lambda images: self._emit(TestDue(images=images)),
        )

    def _answer(self, request: Predict | Represent) -> Predicted | Represented:
        """Logits of some test rows, or features of some rows of both splits."""
        if self._untested is None:
            self._untested = self._keeper.fingerprint()
        if isinstance(request, Predict):
            return self._answers.predict(request, self._emit)
        return self._answers.represent(request, self._emit)

    def _end_test(self) -> TestEnded:
        """Report whether the test changed the learner, and its costs."""
        return TestEnded(
            changed=self._untested not in (None, self._keeper.fingerprint()),
            holdings=self._oversight.holdings(),
            peak_memory_bytes=peak(self._info.device),
            cpu_seconds=self._processor.take(),
            flops_per_image=self._oversight.flops_per_image,
            read_files=files_read(self._plugin),
        )

    def _fill_features(self, request: FillFeatures) -> Filled:
        """Compute features of some rows, in a process that loads no plugin."""
        if self._filled is None:
            device = usable_device(request.start.info.device)
            be_deterministic(request.start.threads)
            images = RowImages(request.start, request.start.info.image_shape[0], device)
            self._filled = images.features(request.backbone, self._reporting.features)
        self._filled.fill(request.groups, request.rows, request.where, request.to)
        return Filled()

    def _adapt(self, request: Adapt) -> Adapted:
        """Predict one unlabelled batch and learn from it.

        Random draws depend on the batch's number, so that a continued run makes the same draws.
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
        ask = partial(self._strategy.adapt, Batch(images, finite=True))
        with self._numerics.active():
            answer = self._oversight.adapt(images, request.number, ask)
        self._numerics.check_used(self._strategy, request.number)
        self._own_numbers.log = None
        shape, place = (len(images), request.num_seen_classes), f"batch {request.number + 1}"
        logits = checked_logits(answer, "adapt", *shape, place)
        after = self._counted()
        return Adapted(
            logits=logits * np.float32(self._strategy.confidence_scale),
            seconds=time.perf_counter() - started,
            forward=after[0] - before[0],
            backward=after[1] - before[1],
            logged=log.everything(),
        )

    def _forget(self, request: Forget) -> Forgotten:
        """Remove rows from the memory, and let the strategy forget them."""
        started = time.perf_counter()
        seed_generators(self._info.seed, "forget", step=request.number)

        log = self._own_numbers.log = NumberLog()

        def made(rows: Sequence[ExperienceRows]) -> list[Experience]:
            return [self._experiences.make(part, log, lambda: None, request.place) for part in rows]

        parts, rest = made(request.forgotten), request.retained
        retained = None if rest is None else made(rest)
        what = (request.number, request.kind, request.classes, request.num_seen_classes)
        wanted = ForgetRequest(*what, parts, retained, self._info.seed)
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
        """Number of images passed through the classifier's backbone, forward and backward."""
        return (0, 0) if self._passes is None else (self._passes.forward, self._passes.backward)

    def _save(self, request: Save) -> Saved:
        """Write the state after an experience, and report sizes."""
        self._keeper.write(request.path)
        return Saved(
            holdings=self._oversight.holdings() if self._adapts else None,
            stored_samples=len(self._info.memory),
            memory_bytes=self._info.memory.size,
            kept_images=self._oversight.kept_images(Learner),
            peak_memory_bytes=peak(self._info.device),
            own_costs=checked_costs(self._strategy.costs()),
            cpu_seconds=self._processor.take(),
            flops_per_image=self._oversight.flops_per_image if self._adapts else None,
            read_files=files_read(self._plugin),
        )
