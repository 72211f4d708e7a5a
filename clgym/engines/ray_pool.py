"""Jobs on a ray cluster: an existing one by its address, or one on this machine.

Ray's own retries are off: the submitter counts deaths, so that the rule is the same on every
engine. A job may therefore run twice and must be idempotent; its files must be in a folder that all
nodes can access.
"""

from typing import Any

import ray  # pyright: ignore[reportMissingImports]
import ray.exceptions  # pyright: ignore[reportMissingImports]

from clgym.engines.answer import answer, done, make_target
from clgym.engines.spec import Done, Message, PoolSpec
from clgym.errors import JobLost

__all__ = ["RayPool"]

_STORE_BYTES = 100 * 2**20
"""Size of the object store in bytes; only messages pass through it."""


def _carry_out(target: str, message: Message) -> Message:
    return answer(make_target(target, lambda event: None), message)


class RayPool:
    """See `clgym.engines.pool.WorkerPool`."""

    def __init__(self, spec: PoolSpec, target: str) -> None:
        """Join the cluster that ``spec.options["address"]`` names, or start one."""
        self._target, self._workers = target, spec.workers
        self._ours = not ray.is_initialized()
        if self._ours:
            address = spec.options.get("address")
            local = {"num_cpus": spec.workers, "object_store_memory": _STORE_BYTES}
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                **(local if address is None else {}),
            )
        # Ray shows a job only the GPU that it reserved, whose name is always the same.
        self._device = spec.device(0).partition(":")[0]
        gpus = float(spec.options.get("gpus", 1)) if self._device == "cuda" else 0
        self._remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_carry_out)
        self._running: dict[Any, str] = {}

    @property
    def free(self) -> int:
        """See `WorkerPool.free`."""
        return self._workers - len(self._running)

    def submit(self, key: str, message: Message) -> None:
        """See `WorkerPool.submit`."""
        job = self._remote.remote(self._target, {**message, "device": self._device})
        self._running[job] = key

    def wait(self, seconds: float) -> list[Done]:
        """See `WorkerPool.wait`."""
        if not self._running:
            return []
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._ended(job) for job in ready]

    def _ended(self, job: Any) -> Done:
        key = self._running.pop(job)
        try:
            reply: Any = ray.get(job)
        except ray.exceptions.RayError as error:
            death = JobLost(
                expected="ray's worker to run until the end of the job",
                found=type(error).__name__,
                fix="See ray's logs on the node",
            )
            return Done(key, None, death)
        return done(key, reply)

    def close(self) -> None:
        """Cancel running jobs; leave the cluster, or stop it if this pool has started it."""
        for job in self._running:
            ray.cancel(job, force=True)
        self._running.clear()
        if self._ours:
            ray.shutdown()
