"""The filter of system calls: what it refuses, and what honest code needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from clgym.engines import seccomp

FILTERED = """
import fcntl, os, resource, shutil, socket, struct, sys
from pathlib import Path
from clgym.engines.seccomp import refuse_calls
from clgym.engines.system import gain_no_privileges

assert gain_no_privileges() and refuse_calls() == ["networks", "kernel memory", "attributes"]
folder = Path(sys.argv[1])
file = folder / "file"
try:
    {attempt}
except OSError as error:
    print(type(error).__name__)
else:
    print("done")
"""
REFUSED = {
    "a UDP socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a netlink socket": "socket.socket(16, socket.SOCK_RAW)",
    "an extended attribute": 'os.setxattr(file, "user.x", b"x")',
    "times": "os.utime(file, ns=(5, 5))",
    "an owner": "os.chown(file, os.getuid(), os.getgid())",
    "flags": 'fcntl.ioctl(file.open(), 0x40086602, struct.pack("l", 0x40))',
    "a hint": 'fcntl.fcntl(file.open(), 1036, struct.pack("Q", 4))',
    "limits of another process": "resource.prlimit(os.getppid(), resource.RLIMIT_RSS, (5, 5))",
}
ALLOWED = {
    "a pair of sockets": "socket.socketpair()",
    "a local socket": "socket.socket(socket.AF_UNIX)",
    "its own limits": "resource.getrlimit(resource.RLIMIT_NOFILE)",
    "a new file": '(folder / "new").touch(); (folder / "new").stat()',
    "a copy": 'shutil.copy(file, folder / "copy"); (folder / "copy").stat()',
    "flags that are read": "fcntl.fcntl(file.open(), fcntl.F_GETFL)",
    "a lock": 'fcntl.flock(file.open("w"), fcntl.LOCK_EX)',
    "another program": 'assert os.system("true") == 0',
}


def outcome(folder: Path, attempt: str) -> str:
    (folder / "file").write_text("x")
    code = FILTERED.format(attempt=attempt)
    words = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(not seccomp.available(), reason="the calls of this machine are not known")
@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_reach_others_are_refused(tmp_path: Path, name: str) -> None:
    assert outcome(tmp_path, REFUSED[name]) == "PermissionError"


@pytest.mark.skipif(not seccomp.available(), reason="the calls of this machine are not known")
@pytest.mark.parametrize("name", ALLOWED)
def test_calls_that_honest_code_makes_work(tmp_path: Path, name: str) -> None:
    assert outcome(tmp_path, ALLOWED[name]) == "done"
