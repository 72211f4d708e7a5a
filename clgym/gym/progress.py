"""File about a run's progress, from which an interrupted run continues."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from clgym.errors import BadOutput
from clgym.gym.plan import ResolvedRun
from clgym.messages import ClassifierIdentity, Holdings, Saved, Started, TestEnded
from clgym.results.holdings import HoldingFacts
from clgym.text import printable_tree

__all__ = ["Progress"]


class Progress(BaseModel):
    """``progress.json``: the progress of a run."""

    model_config = ConfigDict(extra="forbid")

    phase: int = 0
    done: int = 0
    """Number of completed steps of that phase."""
    pieces: list[list[str]]
    """SHA-256 of each piece of each phase."""
    state: str | None = None
    state_sha256: str | None = None
    classifier: ClassifierIdentity | None = None
    """Classifier with which an adaptation phase began."""
    device_name: str = ""
    state_bytes: int = 0
    holdings: HoldingFacts = HoldingFacts()
    stored_samples: int = 0
    stored_after: list[int] = []
    """Number of stored samples after each experience of a learning phase."""
    memory_bytes: int = 0
    kept_images: dict[str, int] = {}
    own_costs: dict[str, float] = {}
    read_files: dict[str, str] = {}
    peak_memory_bytes: int = 0
    idle_memory_bytes: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    predict_flops_per_image: float | None = None
    energy_joules: dict[str, float] = {}
    utilisation_sum: float = 0.0
    """Sum of the samples of the GPU's utilisation."""
    utilisation_samples: int = 0
    sessions: int = 0

    def _note_peak(self, size: int) -> None:
        """Update the peak of memory in bytes."""
        self.peak_memory_bytes = max(self.peak_memory_bytes, size)

    def note_started(self, found: Started) -> None:
        """Store the learner's facts about its device."""
        self.device_name = found.device_name
        known = self.idle_memory_bytes
        idle = found.idle_memory_bytes
        self.idle_memory_bytes = idle if known is None else min(idle, known)

    def note_energy(self, joules: Mapping[str, float]) -> None:
        """Add energy in joules, by device."""
        for device, used in joules.items():
            self.energy_joules[device] = self.energy_joules.get(device, 0.0) + used

    def note_utilisation(self, samples: Sequence[float]) -> None:
        """Add samples of the GPU's utilisation, each from 0 to 1."""
        self.utilisation_sum += sum(samples)
        self.utilisation_samples += len(samples)

    @property
    def gpu_utilisation(self) -> float | None:
        """Mean utilisation of the GPU; None without samples."""
        count = self.utilisation_samples
        return self.utilisation_sum / count if count else None

    def _note_work(self, found: Saved | TestEnded) -> None:
        """Add processor time and operations of a learner, and update the peak of memory."""
        self.cpu_seconds += found.cpu_seconds
        if found.flops_per_image is not None:
            self.predict_flops_per_image = found.flops_per_image
        self._note_peak(found.peak_memory_bytes)

    def note_saved(self, found: Saved, state_bytes: int, run: ResolvedRun) -> None:
        """Store the learner's facts about itself at a save, and the size of its state.

        Raises:
            BadOutput: A file changed that an earlier session of the run read.
        """
        self.state_bytes = max(self.state_bytes, state_bytes)
        self.memory_bytes = found.memory_bytes
        self.stored_samples, self.own_costs = found.stored_samples, found.own_costs
        for place, images in found.kept_images.items():
            self.kept_images[place] = max(images, self.kept_images.get(place, 0))
        if found.holdings is not None:
            self._note_holdings(found.holdings, run)
        self._note_files(found.read_files)
        self._note_work(found)

    def note_tested(self, found: TestEnded, run: ResolvedRun) -> None:
        """Store the facts that a tested learner reported about itself.

        Raises:
            BadOutput: A file changed that an earlier session of the run read.
        """
        self._note_holdings(found.holdings, run)
        self._note_files(found.read_files)
        self._note_work(found)

    def _note_holdings(self, found: Holdings, run: ResolvedRun) -> None:
        """Store the sizes of the learner, and add the declared backbone's."""
        self.holdings = HoldingFacts(
            trainable=found.trainable,
            total=found.total + (run.backbone.parameters if found.backbone and run.backbone else 0),
            buffers=found.buffers,
            stored_bytes=max(self.holdings.stored_bytes, sum(found.stored.values())),
            stored=printable_tree(found.stored),
            budget_bytes=run.needs.memory_bytes,
        )

    def _note_files(self, read: dict[str, str]) -> None:
        """Store hashes of files that the strategy read, which must be the same in all sessions.

        Raises:
            BadOutput: A file changed since an earlier session of the run read it.
        """
        known = self.read_files
        changed = sorted(name for name in known.keys() & read.keys() if known[name] != read[name])
        if changed:
            raise BadOutput(
                expected="the files that the strategy read when this run was started",
                found=f"different {', '.join(changed)}",
                fix="Restore them, or give another --out: with other files it is a different run",
            )
        self.read_files = {**known, **read}
