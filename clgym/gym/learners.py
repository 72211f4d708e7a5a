"""Start the learners of a run: for each experience, for each test, and one for features."""

import contextlib
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import cast

from clgym.data.store import cache_dir
from clgym.engines import Channel, open_channel
from clgym.gym.confinement import confinement
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.description import LEARNER
from clgym.gym.folder import DUE, SHOWN, STATES
from clgym.gym.folder import LEARNER as WRITTEN
from clgym.gym.plan import ResolvedRun
from clgym.messages import FillClassifiers, FillFeatures
from clgym.results.layout import STATE
from clgym.streams.adaptation import AdaptationStream

__all__ = ["Learners"]


class Learners:
    """Processes of one run, each of which may open only the files that its work needs."""

    def __init__(self, run: ResolvedRun, on_event: OnEvent) -> None:
        """Start nothing yet; ``on_event`` is called with progress."""
        self._run, self._on_event = run, on_event
        self._filling: Channel | None = None

    @contextlib.contextmanager
    def training(self) -> Generator[Conversation]:
        """The learner that trains; a new one takes its place whenever it is ended.

        It may read the states that the gym took, write to its folder, and open the labelled images
        of the source domain if its strategy declared the need.
        """
        run = self._run
        given = [run.out.resolve() / name for name in (DUE, STATES)]
        for folder in (*given, run.out / SHOWN):
            with contextlib.suppress(OSError):  # a later write reports the error
                folder.mkdir(parents=True, exist_ok=True)  # a sandbox opens what exists
        read = [*given, *self._transforms(), *self._cached("backbones", "classifiers")]
        if run.request.after is not None:
            read.append(run.request.after / STATE)
        if run.needs.source_data:
            read += self._home()
        start = partial(self._open, read, [run.out / WRITTEN])
        # Learners in one process would share its memory.
        another = None if run.request.engine == "inline" else start
        conversation = Conversation(start(), self._on_event, another)
        try:
            yield conversation
        finally:
            conversation.close()
            self._end_filler()

    @contextlib.contextmanager
    def testing(self, state: Path) -> Generator[Conversation]:
        """A learner for one test, which cannot write anything that another process could read.

        Args:
            state: File of the state that it will load.
        """
        read = [
            state,
            self._run.out.resolve() / SHOWN,
            *self._transforms(),
            *self._cached("backbones", "classifiers"),
        ]
        channel = self._open(read, [])
        try:
            yield Conversation(channel, self._on_event)
        finally:
            channel.close()

    def fill_features(self, message: FillFeatures) -> None:
        """Compute frozen features; see `_filler`."""
        self._filler().fill_features(message)

    def fill_classifiers(self, message: FillClassifiers) -> None:
        """Train a classifier; see `_filler`, which then ends, since it occupies the device."""
        self._filler().fill_classifiers(message)
        self._end_filler()

    def _filler(self) -> Conversation:
        """A process that loads no plugin and completes the cache.

        No other one that is given images may write there, so no plugin can leave any in the cache.
        """
        if self._filling is None:
            write = [cache_dir() / name for name in ("backbones", "features", "classifiers")]
            splits = [split for s in self._run.sources for split in (s.train, s.test)]
            read = [*(Path(split.path) for split in splits), *self._transforms()]
            handed = (self._run.out / name for name in (DUE, SHOWN))
            self._filling = self._open(read, [*write, *handed])
        return Conversation(self._filling, self._on_event)

    def _end_filler(self) -> None:
        if self._filling is not None:
            self._filling.close()
            self._filling = None

    def _home(self) -> list[Path]:
        """Files of the labelled images of the source domain, for streams with an adaptation phase.

        Images of experiences are copied to files of their own, and those of adaptation phases are
        sent with the requests.
        """
        stream = cast(object, self._run.stream)
        shift = getattr(stream, "shift", stream)
        if not isinstance(shift, AdaptationStream):
            return []
        return [Path(split.path) for split in shift.home_splits(self._run.sources)]

    def _transforms(self) -> list[Path]:
        """Files of the transforms that the stream applies to images."""
        steps = getattr(self._run.stream, "steps", ())
        files = {step.transform.file for step in steps if step.transform}
        return [*filter(None, files)]

    def _cached(self, *names: str) -> list[Path]:
        """Folders of the cache that the strategy's needs allow it to read, among those named.

        They are made here, since a sandbox cannot open folders that are made after its start.
        """
        needs = self._run.needs
        weights, classifier = needs.backbone is not None, needs.classifier is not None
        allowed = {"backbones": weights, "features": weights, "classifiers": classifier}
        folders = [cache_dir() / name for name in names if allowed[name]]
        for folder in folders:
            with contextlib.suppress(OSError):  # a later write reports the error
                folder.mkdir(parents=True, exist_ok=True)
        return folders

    def _open(self, read: list[Path], write: list[Path]) -> Channel:
        request, limit = self._run.request, self._run.request.timeout_minutes
        shut = confinement(request, self._run.strategy_config, read, write)
        seconds = None if limit is None else 60 * limit
        return open_channel(request.engine, LEARNER, shut, seconds, self._run.libraries)
