"""Many jobs on several workers. A pool carries messages to a target and says how each ended.

It knows neither trials nor budgets: whoever submits decides what to do about a worker that died.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from clgym.errors import BadConfig, ClgymError, MissingExtra, WorkerDied

__all__ = ["Done", "Pool", "PoolSpec", "gather", "open_pool"]

Name = Literal["process", "inline", "ray", "slurm"]
Message = dict[str, Any]
OnEvent = Callable[[str, Message], None]


@dataclass(frozen=True)
class Done:
    """How one job ended."""

    key: str
    reply: Message | None
    error: ClgymError | None
    """A `clgym.errors.WorkerDied` if the process was killed; nothing is known of the job then."""


class Pool(Protocol):
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
    options: dict[str, Any] = field(default_factory=dict)
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


def _ignore(key: str, event: Message) -> None:
    """Nobody listens."""


def open_pool(spec: PoolSpec, target: str, on_event: OnEvent = _ignore) -> Pool:
    """Start workers for ``module:Class``; each message gets its worker's ``device``.

    Raises:
        MissingExtra: ray or submitit is not installed.
    """
    if spec.engine == "process":
        from clgym.engines.process_pool import ProcessPool

        return ProcessPool(spec, target, on_event)
    if spec.engine == "inline":
        from clgym.engines.inline import InlinePool

        return InlinePool(spec, target, on_event)
    try:
        if spec.engine == "ray":
            from clgym.engines.ray_pool import RayPool

            return RayPool(spec, target)
        from clgym.engines.slurm_pool import SlurmPool

        return SlurmPool(spec, target)
    except ImportError as error:
        raise MissingExtra(
            expected=f"the package {error.name} for --engine {spec.engine}",
            found="it is not installed",
            fix=f"pip install 'clgym[{spec.engine}]'",
        ) from error


def gather(pool: Pool, jobs: Sequence[tuple[str, Message]]) -> dict[str, Message]:
    """Carry out jobs that must all succeed; replies by key. A killed one is tried once more.

    Raises:
        ClgymError: the error of the first that did not succeed.
    """
    messages, waiting, replies = dict(jobs), [key for key, _ in jobs], {}
    died: set[str] = set()
    while len(replies) < len(messages):
        while waiting and pool.free:
            key = waiting.pop(0)
            pool.submit(key, messages[key])
        for done in pool.wait(1.0):
            if isinstance(done.error, WorkerDied) and done.key not in died:
                died.add(done.key)
                waiting.append(done.key)
                continue
            if done.error is not None:
                raise done.error
            replies[done.key] = done.reply or {}
    return replies
