"""System calls that a sandboxed process may not make: those that reach other processes unseen.

https://docs.kernel.org/userspace-api/seccomp_filter.html. Landlock restricts files and TCP. This
filter refuses what else could carry data to another process: sockets of networks, System V shared
memory, queues and semaphores, POSIX queues, and the kernel's key rings. Rings of io_uring are
refused, too, since a filter does not see their calls. Local sockets stay, since CUDA opens them;
Landlock refuses to bind them to a path and to connect abstract ones to other processes.
"""

import ctypes
import platform
import struct
import sys
from collections.abc import Sequence

from clgym.engines.system import libc

__all__ = ["available", "refuse_calls"]

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENT_AT = 0, 4, 16
"""Places in the kernel's description of a call; the last is that of the first argument."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 13
"""Results of the filter; refused calls end with EACCES, "permission denied"."""
_X32 = 0x40000000
"""From here on, x86-64 numbers name the same calls in another form."""
_AF_UNIX = 1

_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine, its number in descriptions of calls, and the number of `socket`."""
_REFUSED = {
    # shmget, semget, msgget, mq_open, add_key, request_key, keyctl, io_uring_setup
    "x86_64": (29, 64, 68, 240, 248, 249, 250, 425),
    "aarch64": (194, 190, 186, 180, 217, 218, 219, 425),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def available() -> bool:
    """Whether the calls of this machine are known."""
    return sys.platform == "linux" and platform.machine() in _MACHINES


def refuse_calls() -> list[str]:
    """Refuse the calls in this process and those that it starts; return what is enforced.

    `clgym.engines.system.gain_no_privileges` must have been called. Nothing is enforced if the
    calls are not known, or the kernel has no filters.
    """
    if not available():
        return []
    machine = platform.machine()
    steps = _steps(*_MACHINES[machine], _REFUSED[machine])
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(kept))
    zero = ctypes.c_ulong(0)
    filtered = libc().prctl(
        _SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), zero, zero
    )
    return ["networks", "kernel memory"] if filtered == 0 else []


def _steps(machine: int, socket: int, refused: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Instructions of the filter: operation, instructions to skip if true, if false, operand."""
    count = len(refused)
    return [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 0, count + 6, machine),  # calls in the form of another machine are refused
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, count + 4, 0, _X32),
        *((_EQUAL, count + 3 - place, 0, call) for place, call in enumerate(refused)),
        (_EQUAL, 0, 2, socket),
        (_LOAD, 0, 0, _ARGUMENT_AT),
        (_EQUAL, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
