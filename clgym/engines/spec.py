"""Interface of a pool of workers: its options, its jobs, and how they end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from clgym._moved import report_renamed
from clgym.engines.channel import Message
from clgym.errors import BadConfig, ClgymError

__all__ = ["Done", "Message", "OnEvent", "WorkerPool", "PoolSpec"]

report_renamed(__name__)

Name = Literal["process", "inline", "ray", "slurm"]
OnEvent = Callable[[str, Message], None]


@dataclass(frozen=True)
class Done:
    """Outcome of one job."""

    key: str
    reply: Message | None
    error: ClgymError | None
    """A `clgym.errors.JobLost` if the job's process was killed, so that its outcome is unknown."""


class WorkerPool(Protocol):
    """Workers that each take one job at a time."""

    @property
    def free(self) -> int:
        """Number of jobs that can be submitted now."""
        ...

    def submit(self, key: str, message: Message) -> None:
        """Start a job; only while a worker is `free`."""
        ...

    def wait(self, seconds: float) -> list[Done]:
        """Jobs that ended within a number of seconds; may be none."""
        ...

    def close(self) -> None:
        """Stop all workers; running jobs are lost."""
        ...


@dataclass(frozen=True)
class PoolSpec:
    """Where jobs run, which does not affect their results."""

    engine: Name = "process"
    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)
    """Devices, assigned to the workers in turn: ``cuda:0, cuda:1`` with four workers is two on
    each."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the engine: ``address`` of a ray cluster, or submitit's parameters for slurm."""

    def __post_init__(self) -> None:
        """Refuse a pool without workers or devices, before anything is written.

        Raises:
            BadConfig: There is no worker, or no device.
        """
        if self.workers < 1 or not self.devices:
            raise BadConfig(
                expected="at least one worker and one device",
                found=f"{self.workers} workers on {len(self.devices)} devices",
                fix="Give --workers 1 or more",
            )

    def device(self, slot: int) -> str:
        """The device of a worker."""
        return self.devices[slot % len(self.devices)]
