"""The run loop shared by all streams: send requests, save, continue, and write the record.

A run is a sequence of phases (`Phase`): learning, adaptation, or both. A phase carries out its
steps and measures; the session saves the state, writes the measurements since the last save (a
*piece*), and then the progress file that refers to both. Pieces contain only predictions: labels,
and numbers that depend on them, are not written to disk before the record.
"""

import math
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import cast

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from clgym.errors import BadOutput
from clgym.files import dump_checked, file_sha256, load_checked, sha256, write_atomic
from clgym.gym import environment
from clgym.gym.conduct import check_memory, learned_apart
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.energy import EnergyMeter
from clgym.gym.folder import (
    DUE,
    LEARNER,
    PROGRESS,
    SHOWN,
    STATES,
    keep_state,
    provenance,
    renew_folder,
    take_state,
    write_record,
)
from clgym.gym.phase import Arrays, Kind, Phase
from clgym.gym.plan import ResolvedRun
from clgym.gym.progress import Progress
from clgym.gym.utilisation import UtilisationMeter
from clgym.messages import (
    CheckpointSaved,
    ClassifierIdentity,
    Load,
    RunResumed,
    Save,
    Started,
)
from clgym.results.conduct import Conduct
from clgym.results.layout import PREDICTIONS, SERIES, STATE
from clgym.results.record import Cost, Record, make_result
from clgym.results.series import Series
from clgym.text import printable_tree

__all__ = ["Session"]

_RESULTS: dict[tuple[Kind, ...], str] = {
    ("learning",): "learning",
    ("adaptation",): "adaptation",
    ("learning", "adaptation"): "two-phases",
    ("learning", "deletion"): "deletion",
    ("pretraining",): "pretraining",
}
"""Kind of the result of a run, by the kinds of its phases."""
_STORING = ("learning", "pretraining")
"""Kinds of phases in which stored samples are counted after each experience."""


class Session:
    """One run from its first to its last step, which can continue from `progress.json`.

    Attributes:
        phases: Phases of the run, in order.
    """

    def __init__(
        self,
        run: ResolvedRun,
        phases: list[Phase],
        conversation: Conversation,
        on_event: OnEvent,
        order_key: str,
    ) -> None:
        """Begin at the first step; `resume` loads the progress of an earlier process."""
        self._order_key = order_key
        self._resolved, self.phases = run, phases
        self._out = run.out.resolve()  # absolute, since a worker may have another working folder
        self._conversation, self._emit = conversation, on_event
        self._progress = Progress(pieces=[[] for _ in phases])

    def run(self) -> Record:
        """Carry out the remaining steps, save, and write the record."""
        self.resume()
        for number, phase in enumerate(self.phases):
            if number == self._progress.phase and self._progress.done < len(phase):
                self._run_phase(number)
            if number == self._progress.phase and number + 1 < len(self.phases):
                self._progress.phase, self._progress.done = number + 1, 0
        return self._finish()

    def resume(self) -> None:
        """Load the progress that an earlier session saved.

        Raises:
            BadOutput: Its files are damaged.
        """
        note = self._out / PROGRESS
        if not note.is_file():
            keep_state(self._out, None)
            return
        try:
            self._progress = Progress.model_validate(load_checked(note.read_bytes()))
            for number, phase in enumerate(self.phases):
                for piece, expected in enumerate(self._progress.pieces[number]):
                    arrays = load(self._checked_piece(number, piece, expected))
                    phase.restore(arrays)
                    phase.series.put_piece(arrays)
        except (ValidationError, SafetensorError, OSError, LookupError, ValueError) as error:
            raise BadOutput(
                expected=f"the files of an interrupted run at {self._out.name}",
                found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                fix="Delete the output folder and repeat the run",
            ) from error
        state = self._progress.state
        keep_state(self._out, state)
        earlier, there = (self._out / name / str(state) for name in (LEARNER, STATES))
        if earlier.is_file() and not there.is_file():  # where an earlier version kept it
            take_state(self._out, earlier.name)

    def _checked_piece(self, number: int, piece: int, expected: str) -> bytes:
        path = self._piece(number, piece)
        data = path.read_bytes()
        if sha256(data) != expected:
            raise ValueError(f"{path.name} is not what was saved")
        return data

    def _checked_state(self) -> Path | None:
        """Path of the state that the progress names, after a check; None before the first save.

        Raises:
            BadOutput: The state is missing or damaged.
        """
        progress = self._progress
        if progress.state is None:
            return None
        path = self._out / STATES / progress.state
        if not path.is_file() or file_sha256(path) != progress.state_sha256:
            raise BadOutput(
                expected=f"{path.name} in {self._out.name} as it was saved",
                found="different content" if path.is_file() else "no such file",
                fix="Delete the output folder and run again",
            )
        return path

    def _run_phase(self, number: int) -> None:
        phase = self.phases[number]
        phase.prepare()
        self.begin(number)
        with closing(self._utilisation):
            self._carry_out(number, phase)

    def _carry_out(self, number: int, phase: Phase) -> None:
        """Carry out and save the remaining steps of a phase that has begun."""
        started, saved = time.perf_counter(), time.monotonic()
        interval = 60 * self._resolved.request.checkpoint_minutes
        for step in range(max(self._progress.done, phase.first_step), len(phase)):
            if self._conversation.ended:
                self._start_learner(number)
            with self._utilisation.measured():
                phase.carry_out(step)
            boundary = phase.is_boundary(step)
            if boundary or time.monotonic() - saved >= interval:
                self.save(number, step, started)
                started, saved = time.perf_counter(), time.monotonic()
                if not boundary:
                    self._emit(CheckpointSaved(experience=phase.experience(step)))

    def begin(self, number: int) -> None:
        """Start the learner for a phase, at its beginning or at the saved progress.

        Raises:
            BadOutput: The classifier is not the one that the run began with.
        """
        phase, progress = self.phases[number], self._progress
        (self._out / LEARNER).mkdir(parents=True, exist_ok=True)
        reply = self._start_learner(number)
        self._energy = EnergyMeter(reply.device_uuid)
        self._utilisation = UtilisationMeter(reply.device_uuid)
        if progress.done:
            images = sum(one.images for one in self.phases[: number + 1])
            self._emit(RunResumed(experience=phase.experience(progress.done), images=images))
        progress.sessions += 1

    def _start_learner(self, number: int) -> Started:
        """Build the strategy in a learner, from the last saved state if there is one.

        Raises:
            BadOutput: The state is missing or damaged, or the classifier is not the one that the
                run began with.
        """
        phase = self.phases[number]
        state = self._checked_state() or phase.initial_state
        reply = self._conversation.start(phase.start_message())
        self._progress.note_started(reply)
        self._note_classifier(number, reply, state)
        if state is not None:
            self._conversation.load(Load(path=state))
        return reply

    def _note_classifier(self, number: int, reply: Started, state: Path | None) -> None:
        """Store the identity of the first classifier: a given one, or that of an earlier phase."""
        found = reply.classifier
        if self.phases[number].kind == "adaptation" and number > 0 and state is not None:
            found = ClassifierIdentity(name="learned", sha256=sha256(state.read_bytes()))
        if found is None:
            return
        known = self._progress.classifier
        if known is None:
            self._progress.classifier = found
        elif number == 0 and (known.name, known.sha256) != (found.name, found.sha256):
            raise BadOutput(
                expected="the classifier with which this run was started",
                found=f"{found.name} with other weights",
                fix="Restore the old weights, or give another --out",
            )

    def save(self, number: int, step: int, started: float) -> None:
        """Save the learner's state, test it, write the new piece, then the progress file.

        ``started`` is the time at which the work since the last save began.
        """
        phase, progress = self.phases[number], self._progress
        last = number + 1 == len(self.phases) and step + 1 == len(phase)
        name = STATE if last else f"state-{number}-{step}.safetensors"
        saved = self._conversation.save(Save(path=self._out / LEARNER / name))
        check_memory(self._resolved.needs.memory, saved.stored_samples)
        apart = phase.kind != "adaptation" and learned_apart(self._resolved)
        if apart:
            self._conversation.end_learner()  # before a test, which could send it something
        path = take_state(self._out, name)
        tested = phase.test(step, path)
        new = {**phase.take_piece(), **phase.series.take_piece()}
        piece, pieces = save(new), progress.pieces[number]
        write_atomic(self._piece(number, len(pieces)), piece)
        pieces.append(sha256(piece))
        progress.phase, progress.done, progress.state = number, step + 1, name
        progress.state_sha256 = file_sha256(path)
        progress.note_saved(saved, path.stat().st_size, self._resolved)
        progress.stored_after += [saved.stored_samples] if phase.kind in _STORING else []
        if tested is not None:
            progress.note_tested(tested, self._resolved)
        progress.wall_seconds += time.perf_counter() - started
        progress.note_energy(self._energy.take())
        progress.note_utilisation(self._utilisation.take())
        if apart:
            renew_folder(self._out / LEARNER)
        write_atomic(self._out / PROGRESS, dump_checked(progress.model_dump()))
        phase.saved(step)
        keep_state(self._out, name)

    def _piece(self, phase: int, number: int) -> Path:
        return self._out / f"answers-{phase}-{number}.safetensors"

    def _finish(self) -> Record:
        """Join the predictions, write the record, and delete files needed only to continue."""
        joined: Arrays = {}
        for phase in self.phases:
            joined |= phase.predictions()
        data = save(joined)
        write_atomic(self._out / PREDICTIONS, data)
        (self._out / STATES / STATE).replace(self._out / STATE)
        series = self._series()
        if len(series):
            write_atomic(self._out / SERIES, series.as_csv())
        record = self._record(sha256(data), series)
        write_record(self._out, record, self._resolved.key)
        for number, pieces in enumerate(self._progress.pieces):
            for piece in range(len(pieces)):
                self._piece(number, piece).unlink(missing_ok=True)
        (self._out / PROGRESS).unlink(missing_ok=True)
        for folder in (LEARNER, STATES, DUE, SHOWN):
            shutil.rmtree(self._out / folder, ignore_errors=True)
        return record

    def _series(self) -> Series:
        """The logged numbers of all phases, one after the other."""
        joined, images = Series(), 0
        for phase in self.phases:
            joined.extend(phase.series, images)
            images += phase.images
        return joined

    def _record(self, predictions: str, series: Series) -> Record:
        run, progress = self._resolved, self._progress
        numerics = run.numeric_facts
        kinds: tuple[Kind, ...] = tuple(phase.kind for phase in self.phases)
        measures: dict[str, object] = {}
        for phase in self.phases:
            measures |= phase.measures(progress.classifier)
        earlier = cast("list[int] | None", measures.get("stored_after"))
        if earlier is not None:  # counts of the run that this one continues; empty if there is none
            measures["stored_after"] = [*earlier, *progress.stored_after]
        facts = {
            **provenance(run),
            **measures,
            "kind": _RESULTS[kinds],
            "class_order": list(run.stream.class_order),
            "parameters": progress.holdings.total,
            "stored_samples": progress.stored_samples,
            "predictions": {"file": PREDICTIONS, "sha256": predictions},
            "backbone": run.backbone,
            "class_names": run.needs.class_names or None,
            "images_given": run.images and run.images.facts(),
            "numerics": numerics.model_dump() if numerics.words() else None,
        }
        return Record(
            # Names come from datasets and plugins, but records contain only printable characters.
            result=make_result(printable_tree(facts)),
            cost=self._cost(),
            environment=environment.describe(
                run.request.device,
                progress.device_name,
                run.threads,
                run.request.engine,
                sandbox=self._conversation.enforced,
                order_key=self._order_key,
                read_files=progress.read_files,
            ),
            conduct=self._conduct(),
            holdings=progress.holdings,
            logged=series.summary(),
        )

    def _conduct(self) -> Conduct:
        seen = [phase.conduct() for phase in self.phases]
        return Conduct(
            memory_capacity=self._resolved.needs.memory,
            memory_bytes=self._progress.memory_bytes,
            kept_images=printable_tree(self._progress.kept_images),
            image_numbers=math.prod(self._resolved.stream.image_shape),
            **seen[0],  # type: ignore[arg-type]  # pydantic checks each of them
        )

    def _cost(self) -> Cost:
        progress, costs = self._progress, [phase.cost() for phase in self.phases]
        return Cost(
            wall_seconds=progress.wall_seconds,
            cpu_seconds=progress.cpu_seconds,
            train_seconds=[s for cost in costs for s in cost.train_seconds],
            predict_seconds=[s for cost in costs for s in cost.predict_seconds],
            images_per_second=costs[0].images_per_second,
            peak_memory_bytes=progress.peak_memory_bytes,
            idle_memory_bytes=progress.idle_memory_bytes,
            train_flops=[flops for cost in costs for flops in cost.train_flops],
            predict_flops_per_image=progress.predict_flops_per_image,
            energy_joules=progress.energy_joules,
            gpu_utilisation=progress.gpu_utilisation,
            train_images=sum(cost.train_images for cost in costs),
            state_bytes=progress.state_bytes,
            forget_seconds=[s for cost in costs for s in cost.forget_seconds],
            reference_seconds=[s for cost in costs for s in cost.reference_seconds],
            own=progress.own_costs,
            resumed=progress.sessions - len(self.phases),
        )
