"""Reading of the next part while the present one is worked on."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["read_ahead"]

P = TypeVar("P")
T = TypeVar("T")


def read_ahead(parts: Iterable[P], read: Callable[[P], T], device: torch.device) -> Generator[T]:
    """What ``read`` gives for each part, in order; with a GPU one part is read ahead, in a thread.

    While a GPU works the host is free to read. A CPU is not: there every part is read when it is
    due. The thread lives as long as the iterator, which its user closes (`contextlib.closing`): an
    exception of the user's ends the thread, too.

    Args:
        parts: What to read, in order.
        read: Reads one part. It must draw no random numbers and launch nothing on the device: in
            its thread it would do so at any time. What it raises is raised here, where its part is
            due.
        device: Where the parts are worked on.
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
