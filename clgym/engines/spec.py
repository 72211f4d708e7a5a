"""What a pool of workers is: what it is asked for, what it takes, how it tells that a job ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from clgym.engines.channel import Message
from clgym.errors import BadConfig, ClgymError

__all__ = ["Done", "Message", "OnEvent", "WorkerPool", "PoolSpec"]

Name = Literal["process", "inline", "ray", "slurm"]
OnEvent = Callable[[str, Message], None]


@dataclass(frozen=True)
class Done:
    """How one job ended."""

    key: str
    reply: Message | None
    error: ClgymError | None
    """A `clgym.errors.WorkerDied` if the process was killed; nothing is known of the job then."""


class WorkerPool(Protocol):
    """Workers that take one job at a time each."""

    @property
    def free(self) -> int:
        """How many jobs can be submitted now."""
        ...

    def submit(self, key: str, message: Message) -> None:
        """Start a job; only while something is `free`."""
        ...

    def wait(self, seconds: float) -> list[Done]:
        """Jobs that ended, at the latest after so many seconds; may be none."""
        ...

    def close(self) -> None:
        """Stop all workers; what they were doing is lost."""
        ...


@dataclass(frozen=True)
class PoolSpec:
    """Where jobs run. It decides nothing about their results."""

    engine: Name = "process"
    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)
    """Given to the workers in turn: ``cuda:0, cuda:1`` with four workers is two on each."""
    options: Mapping[str, Any] = field(default_factory=dict)  # ray's or submitit's own
    """Of the engine: ``address`` of a ray cluster, submitit's parameters for slurm."""

    def __post_init__(self) -> None:
        """Refuse a pool without workers here: nothing has been written yet.

        Raises:
            BadConfig: fewer than one worker, or no device.
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
