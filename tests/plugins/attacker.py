"""Looks around when it is set up, and tells what it found by the error that it ends with."""

import resource
import tempfile
from pathlib import Path

from clgym.strategies.nmc import NMC

LOOK = "limits"


def limits():
    """Whether programs can gain no rights; most open files, processes and bytes of memory."""
    status = Path("/proc/self/status").read_text()
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_AS)
    return "NoNewPrivs:\t1" in status, *(resource.getrlimit(kind)[1] for kind in kinds)


def temporary_file():
    """The path of a temporary file that it leaves."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x")
    return file.name


class Attacker(NMC):
    def setup(self, info):
        super().setup(info)
        try:
            found = {"limits": limits, "temporary_file": temporary_file}[LOOK]()
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__} {error}") from None
        raise RuntimeError(f"GOT {found}")
