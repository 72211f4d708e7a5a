"""Standard streams of a worker: its own, and nothing of what the others write is lost."""

import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import os
from clgym.engines.forkserver import _open_streams
_open_streams({output})
os.write(1, b"inside\\n")
assert os.read(0, 1) == b""
"""


def in_a_child(output: int) -> None:
    """Open the streams in a child that has inherited a descriptor, and write there."""
    command = [sys.executable, "-c", CHILD.format(output=output)]
    subprocess.run(command, pass_fds=[output], check=True, timeout=60)


def test_a_log_keeps_the_lines_of_all_in_their_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        in_a_child(log.fileno())
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\ninside\nafter\n"


def test_the_place_in_a_log_is_not_shared(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        in_a_child(log.fileno())
        assert os.lseek(log.fileno(), 0, os.SEEK_CUR) == 0


def test_a_pipe_gets_what_is_written() -> None:
    reading, writing = os.pipe()
    in_a_child(writing)
    os.close(writing)
    with os.fdopen(reading) as read:
        assert read.read() == "inside\n"
