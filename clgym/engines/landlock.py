"""Linux Landlock by its system calls: a process gives up access rights permanently.

https://docs.kernel.org/userspace-api/landlock.html. The rights that can be given up depend on the
kernel's version of the interface.
"""

import ctypes
import os
import sys
from pathlib import Path

from clgym.engines.rules import Rules
from clgym.engines.system import libc

__all__ = ["abi", "enforce"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
_TCP = 0b11
"""Rights to bind and to connect."""
_SCOPES = 0b11
"""Scopes of abstract sockets, and of signals to other processes."""


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """Version of the kernel's interface; 0 if there is none."""
    if sys.platform != "linux":
        return 0
    version_flag = 1
    return max(0, libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), version_flag))


def enforce(rules: Rules) -> list[str]:
    """Give up all rights of this process except those of the rules; return what is enforced.

    Raises:
        OSError: The kernel refused.
    """
    version = abi()
    handled = (1 << (12 + sum(version >= since for since in (1, 2, 3, 5)))) - 1
    network, scopes = _TCP * (version >= 4), _SCOPES * (version >= 6)
    size = 8 * (1 + (version >= 4) + (version >= 6))
    attributes = _Attributes(handled, network, scopes)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        for allowed, paths in (
            (_READ, rules.read),
            (_READ_DIR, rules.names),
            (_WRITE, rules.write),
            (_WRITE_FILE | _TRUNCATE, rules.change),
            (_READ_FILE | _WRITE_FILE | _READ_DIR | _TRUNCATE | _IOCTL_DEV, rules.devices),
        ):
            for path in dict.fromkeys(paths):
                _allow(ruleset, path, allowed & handled)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return ["files", *["TCP"] * (version >= 4), *["signals", "abstract sockets"] * (version >= 6)]


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not path.is_dir():
            allowed &= _OF_FILES
        if allowed:
            rule = _PathBeneath(allowed, found)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(found)


def _call(number: int, *arguments: object) -> int:
    result = libc().syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
