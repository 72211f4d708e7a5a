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
from clgym.gym.folder import DUE
from clgym.gym.folder import LEARNER as STATES
from clgym.gym.plan import ResolvedRun
from clgym.messages import FillFeatures
from clgym.results.layout import STATE
from clgym.scenario import kind_of
from clgym.streams.adaptation import AdaptationStream

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
        needs, due = self._run.needs, self._run.out.resolve() / DUE
        with contextlib.suppress(OSError):  # a later write reports the error
            due.mkdir(parents=True, exist_ok=True)  # a sandbox cannot open what is made later
        read = [*self._images(testing=False), *self._cached("backbones"), due]
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
        read = [
            *self._images(testing=True),
            *self._cached("backbones", "features"),
            self._run.out.resolve() / STATES,
        ]
        channel = self._open(read, [], shared_memory=False)
        try:
            yield Conversation(channel, self._on_event)
        finally:
            channel.close()

    def fill_features(self, message: FillFeatures) -> None:
        """Compute frozen features in a process that loads no plugin and may write to the cache."""
        if self._features is None:
            write = [cache_dir() / name for name in ("backbones", "features")]
            write.append(self._run.out / DUE)
            self._features = self._open(self._images(testing=None), write)
        Conversation(self._features, self._on_event).fill_features(message)

    def _images(self, testing: bool | None) -> list[Path]:
        """Files of images for training, for testing, or (None) for both, and of their transforms.

        Images of experiences are copied to files of their own, and those of adaptation phases are
        sent with the requests; a learner that adapts may open labelled data of the source domain.
        """
        run, stream = self._run, cast(object, self._run.stream)
        if testing is None:
            splits = [split for s in run.sources for split in (s.train, s.test)]
        elif testing:
            named = self._tested()
            splits = [getattr(source, name) for source in run.sources for name in named]
        else:
            shift = getattr(stream, "shift", stream)
            splits = shift.home_splits(run.sources) if isinstance(shift, AdaptationStream) else []
        steps = getattr(stream, "steps", ())
        changes = {step.transform.file for step in steps if step.transform}
        return [*(Path(split.path) for split in splits), *filter(None, changes)]

    def _tested(self) -> set[str]:
        """Names of the splits that tests use."""
        stream = cast(object, self._run.stream)
        kind = kind_of(stream)
        if kind == "deletion":  # audits use training rows, too
            return {"train", "test"}
        learning = getattr(stream, "learning", stream)
        measured = {step.measured_on for step in getattr(learning, "steps", ())}
        return measured | ({"train"} if kind == "pretraining" else set[str]())  # for probes

    def _cached(self, *names: str) -> list[Path]:
        """Folders of the cache that a strategy with a backbone reads, by their names.

        They are made here, since a sandbox cannot open folders that are made after its start.
        """
        wanted = names if self._run.needs.backbone is not None else ()
        folders = [cache_dir() / name for name in wanted]
        for folder in folders:
            with contextlib.suppress(OSError):  # a later write reports the error
                folder.mkdir(parents=True, exist_ok=True)
        return folders

    def _open(self, read: list[Path], write: list[Path], shared_memory: bool = True) -> Channel:
        request, limit = self._run.request, self._run.request.timeout_minutes
        shut = confinement(request, self._run.strategy_config, read, write, shared_memory)
        seconds = None if limit is None else 60 * limit
        return open_channel(request.engine, LEARNER, shut, seconds, self._run.libraries)
