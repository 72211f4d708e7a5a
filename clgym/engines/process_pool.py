"""Supervised worker processes on this machine, one job at a time each.

They keep running from job to job, since jobs are the gym's own code, and each run starts its own
learner.
"""

import contextlib
from multiprocessing.connection import wait

from clgym.engines.answer import done, event_in
from clgym.engines.process import Worker
from clgym.engines.spec import Done, Message, OnEvent, PoolSpec
from clgym.errors import JobLost

__all__ = ["ProcessPool"]


class _Slot:
    """A place for one worker, which is replaced when it dies."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.worker: Worker | None = None
        self.job: str | None = None


class ProcessPool:
    """See `clgym.engines.pool.WorkerPool`."""

    def __init__(self, spec: PoolSpec, target: str, on_event: OnEvent) -> None:
        """Prepare the pool; each worker starts with its first job."""
        self._target, self._on_event = target, on_event
        self._slots = [_Slot(spec.device(number)) for number in range(spec.workers)]

    @property
    def free(self) -> int:
        """See `WorkerPool.free`."""
        return sum(slot.job is None for slot in self._slots)

    def submit(self, key: str, message: Message) -> None:
        """See `WorkerPool.submit`."""
        slot = next(slot for slot in self._slots if slot.job is None)
        if slot.worker is not None and slot.worker.ended:
            slot.worker.stop()
            slot.worker = None
        if slot.worker is None:
            slot.worker = Worker(self._target)
        slot.job = key
        with contextlib.suppress(OSError):  # it died just now, which `wait` reports
            slot.worker.ask({**message, "device": slot.device})

    def wait(self, seconds: float) -> list[Done]:
        """See `WorkerPool.wait`."""
        busy = [(s, s.worker) for s in self._slots if s.job is not None and s.worker is not None]
        ready = wait([end for _, w in busy for end in (w.connection, w.status)], seconds)
        told = [s for s, w in busy if w.connection in ready or w.status in ready]
        ended = [self._receive(slot) for slot in told]
        return [done for done in ended if done is not None]

    def _receive(self, slot: _Slot) -> Done | None:
        assert slot.worker is not None and slot.job is not None
        try:
            reply = slot.worker.receive()
        except (EOFError, OSError):
            return self._ended(slot, Done(slot.job, None, self._death(slot)))
        if (event := event_in(reply)) is not None:
            self._on_event(slot.job, event)
            return None
        return self._ended(slot, done(slot.job, reply))

    @staticmethod
    def _death(slot: _Slot) -> JobLost:
        assert slot.worker is not None
        death, slot.worker = slot.worker.death(), None
        return JobLost(
            expected="the job's process to run until the end", found=death.found, fix=death.fix
        )

    @staticmethod
    def _ended(slot: _Slot, done: Done) -> Done:
        slot.job = None
        return done

    def close(self) -> None:
        """See `WorkerPool.close`."""
        for slot in self._slots:
            if slot.worker is None:
                continue
            if slot.job is not None:
                slot.worker.kill()
            slot.worker.stop()
            slot.worker = slot.job = None
