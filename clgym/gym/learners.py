"""Start the learners of a run: one trains, one is started for each test, one computes features."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import cast

from clgym.data.store import cache_dir
from clgym.engines import Channel, open_channel
from clgym.gym.confinement import confinement
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.description import LEARNER
from clgym.gym.folder import LEARNER as STATES
from clgym.gym.plan import ResolvedRun
from clgym.messages import FillFeatures
from clgym.results.layout import STATE
from clgym.scenario import Stream, kind_of

__all__ = ["Learners"]


class Learners:
    """Processes of one run, each of which may open only the files that its work needs."""

    def __init__(self, run: ResolvedRun, on_event: OnEvent) -> None:
        """Start nothing yet; ``on_event`` is called with progress."""
        self._run, self._on_event = run, on_event
        self._features: Channel | None = None

    @contextlib.contextmanager
    def training(self) -> Generator[Conversation]:
        """The learner that trains, for the whole run.

        It may write its states, and to the folders of the cache that its strategy declared.
        """
        needs, read = self._run.needs, [*self._images(testing=False), *self._cached()]
        if self._run.request.after is not None:
            read.append(self._run.request.after / STATE)
        wanted = {"backbones": needs.backbone is not None, "classifiers": bool(needs.classifier)}
        write = [cache_dir() / name for name, used in wanted.items() if used]
        channel = self._open(read, [self._run.out / STATES, *write])
        try:
            yield Conversation(channel, self._on_event)
        finally:
            channel.close()
            if self._features is not None:
                self._features.close()

    @contextlib.contextmanager
    def testing(self) -> Generator[Conversation]:
        """A learner for one test, which cannot write anything that another process could read."""
        read = [*self._images(testing=True), *self._cached(), self._run.out.resolve() / STATES]
        channel = self._open(read, [], shared_memory=False)
        try:
            yield Conversation(channel, self._on_event)
        finally:
            channel.close()

    def fill_features(self, message: FillFeatures) -> None:
        """Compute frozen features in a process that loads no plugin and may write to the cache."""
        if self._features is None:
            write = [cache_dir() / name for name in ("backbones", "features")]
            self._features = self._open(self._images(testing=None), write)
        Conversation(self._features, self._on_event).fill_features(message)

    def _images(self, testing: bool | None) -> list[Path]:
        """Files of images for training, for testing, or (None) for both, and of their transforms.

        Images of adaptation phases are sent with the requests; the start message names the files of
        labelled data of the source domain.
        """
        run, stream = self._run, cast(object, self._run.stream)
        splits = {"train", "test"}
        if kind_of(stream) == "deletion":  # audits use training rows, too
            splits = {"train"} if testing is False else splits
        if isinstance(stream, Stream) and testing is not None:
            splits = {step.measured_on for step in stream.steps} if testing else {"train"}
            splits |= {"train"} if kind_of(stream) == "pretraining" else set()  # so do probes
        changes = {s.transform.file for s in getattr(run.stream, "steps", ()) if s.transform}
        images = [Path(getattr(source, name).path) for source in run.sources for name in splits]
        return [*images, *filter(None, changes)]

    def _cached(self) -> list[Path]:
        """Folders of the cache that a strategy with a backbone reads.

        They are made here, since a sandbox cannot open folders that are made after its start.
        """
        names = ("backbones", "features") if self._run.needs.backbone is not None else ()
        folders = [cache_dir() / name for name in names]
        for folder in folders:
            with contextlib.suppress(OSError):  # a later write reports the error
                folder.mkdir(parents=True, exist_ok=True)
        return folders

    def _open(self, read: list[Path], write: list[Path], shared_memory: bool = True) -> Channel:
        request, limit = self._run.request, self._run.request.timeout_minutes
        shut = confinement(request, self._run.strategy_config, read, write, shared_memory)
        seconds = None if limit is None else 60 * limit
        return open_channel(request.engine, LEARNER, shut, seconds, self._run.libraries)
