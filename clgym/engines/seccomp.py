"""System calls that a sandboxed process may not make: those that reach other processes unseen.

https://docs.kernel.org/userspace-api/seccomp_filter.html. Landlock restricts files and TCP. This
filter refuses what else could carry data to another process: sockets of networks, System V shared
memory, queues and semaphores, POSIX queues, key rings, limits of other processes, and changes of a
file's times, owner, flags and extended attributes, which Landlock does not cover. Changes of its
permissions are ignored, since copying a file ends with them. Rings of io_uring are refused, too,
since a filter does not see their calls. Local sockets stay, since CUDA opens them; Landlock refuses
to bind them to a path and to connect abstract ones to other processes.
"""

import ctypes
import platform
import struct
import sys
from dataclasses import dataclass

from clgym.engines.system import libc

__all__ = ["available", "refuse_calls"]

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _MACHINE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24
"""Places in the kernel's description of a call; the last two are those of its arguments."""
_ALLOW, _REFUSE = (_RETURN, 0, 0, 0x7FFF0000), (_RETURN, 0, 0, 0x00050000 | 13)
_IGNORE = (_RETURN, 0, 0, 0x00050000)
"""Ends of the filter: a refused call ends with EACCES, an ignored one as if it had been done."""
_X32 = 0x40000000
"""From here on, x86-64 numbers name the same calls in another form."""
_AF_UNIX, _OWN = 1, 0
_SET_FLAGS = (0x40086602, 0x401C5820, 0x40087602)
"""Commands of `ioctl` that change a file's flags, project or version."""
_SET_HINT = (1036,)
"""Command of `fcntl` that changes the hint that a file keeps."""


@dataclass(frozen=True)
class _Machine:
    """Numbers of a machine's calls."""

    audit: int
    """Number of the machine in descriptions of calls."""
    socket: int
    prlimit: int
    ioctl: int
    fcntl: int
    refused: tuple[int, ...]
    ignored: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        socket=41,
        prlimit=302,
        ioctl=16,
        fcntl=72,
        refused=(
            *(29, 64, 68, 240, 248, 249, 250, 425),  # shm-, sem-, msgget, mq_open, keys, io_uring
            *(188, 189, 190, 463),  # setxattr, l-, f-, -at
            *(92, 93, 94, 260),  # chown, f-, l-, f-at
            *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
        ),
        ignored=(90, 91, 268, 452),  # chmod, f-, f-at, f-at2
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        socket=198,
        prlimit=261,
        ioctl=29,
        fcntl=25,
        refused=(
            *(194, 190, 186, 180, 217, 218, 219, 425),
            *(5, 6, 7, 463),
            *(55, 54),
            88,
        ),
        ignored=(52, 53, 452),
    ),
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
    steps = _steps(_MACHINES[platform.machine()])
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    kept = ctypes.create_string_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(kept))
    zero = ctypes.c_ulong(0)
    filtered = libc().prctl(
        _SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(program), zero, zero
    )
    return ["networks", "kernel memory", "attributes"] if filtered == 0 else []


_Step = tuple[int, int, int, int]


def _steps(machine: _Machine) -> list[_Step]:
    """Instructions of the filter: operation, instructions to skip if true, if false, operand."""
    return [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, machine.audit),
        _REFUSE,  # a call in the form of another machine
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32),
        _REFUSE,
        *(step for call in machine.refused for step in ((_EQUAL, 0, 1, call), _REFUSE)),
        *(step for call in machine.ignored for step in ((_EQUAL, 0, 1, call), _IGNORE)),
        *_by_argument(machine.socket, _FIRST_AT, (_AF_UNIX,), _ALLOW, _REFUSE),
        *_by_argument(machine.prlimit, _FIRST_AT, (_OWN,), _ALLOW, _REFUSE),
        *_by_argument(machine.ioctl, _SECOND_AT, _SET_FLAGS, _REFUSE, _ALLOW),
        *_by_argument(machine.fcntl, _SECOND_AT, _SET_HINT, _REFUSE, _ALLOW),
        _ALLOW,
    ]


def _by_argument(
    call: int, place: int, values: tuple[int, ...], named: _Step, other: _Step
) -> list[_Step]:
    """Instructions that end a call by whether one of its arguments is among ``values``."""
    tests = [step for value in values for step in ((_EQUAL, 0, 1, value), named)]
    return [(_EQUAL, 0, len(tests) + 2, call), (_LOAD, 0, 0, place), *tests, other]
