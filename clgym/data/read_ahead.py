"""Reading of the next part while a GPU processes the present one."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["read_ahead"]

P = TypeVar("P")
T = TypeVar("T")


def read_ahead(parts: Iterable[P], read: Callable[[P], T], device: torch.device) -> Generator[T]:
    """Results of ``read`` for each part, in order; with a GPU one part is read ahead in a thread.

    While a GPU works, the host is free to read. A CPU is not, so that there every part is read when
    it is needed. The thread lives as long as the iterator, which the caller must close
    (`contextlib.closing`), so that an exception in the caller ends the thread, too.

    Args:
        parts: Parts to read, in order.
        read: Function that reads one part. It must not draw random numbers or use the device, since
            it runs in a thread at an arbitrary time. Its exceptions are raised here when its part
            is needed.
        device: Device that processes the parts.
    """
    if device.type == "cpu":
        yield from map(read, parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="clgym-read-ahead") as thread:
        due: Future[T] | None = None
        for part in parts:
            following = thread.submit(read, part)
            if due is not None:
                yield due.result()
            due = following
        if due is not None:
            yield due.result()
