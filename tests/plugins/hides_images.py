"""Leaves something of its first experience wherever it can, and looks for it in the next ones."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

import torch

from clgym.data.store import cache_dir
from clgym.strategy import Frozen, Needs, Strategy

IMAGES = b"images of the first experience"
BACKBONE = ""
KEY = 0x5EED
NUMBER = int.from_bytes(IMAGES[:5], "little")
OFD_SETLK = 37
GET_FLAGS, SET_FLAGS, NO_DUMP = 0x80086601, 0x40086602, 0x40
C = ctypes.CDLL(None, use_errno=True)
C.shmat.restype = ctypes.c_void_p
PORT = 49152 + KEY % 1000
NAME = f"\0hides-images-{KEY}"


def learner_folder() -> Path:
    """The folder of the states, from the frames above."""
    frame = sys._getframe()
    while frame is not None:
        if hasattr(frame.f_locals.get("request"), "checkpoint"):
            return Path(frame.f_locals["request"].checkpoint).parent
        frame = frame.f_back
    raise LookupError("no message")


def hide_in_kernel() -> None:
    number = C.shmget(KEY, ctypes.c_size_t(4096), 0o1600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    ctypes.memmove(C.shmat(number, None, 0), IMAGES, len(IMAGES))


def find_in_kernel() -> bytes:
    number = C.shmget(KEY, ctypes.c_size_t(4096), 0)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    found = ctypes.string_at(C.shmat(number, None, 0), len(IMAGES))
    C.shmctl(number, 0, None)
    return found


def hide_in_folder(folder: Path) -> None:
    inside = folder / "aside"
    inside.mkdir(parents=True)
    (inside / "file").write_bytes(IMAGES)
    (inside / "file").chmod(0)
    inside.chmod(0)


def find_in_folder(folder: Path) -> bytes:
    (folder / "aside").chmod(0o700)
    (folder / "aside" / "file").chmod(0o600)
    return (folder / "aside" / "file").read_bytes()


def serve() -> None:
    """Answer from a process of its own, which leaves the group."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(NAME)
    server.listen()
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(60)  # nobody ends it if the learner is no process of its own
    while True:
        server.accept()[0].send(IMAGES)


def ask() -> bytes:
    client = socket.socket(socket.AF_UNIX)
    client.connect(NAME)
    return client.recv(100)


def listen() -> None:
    """Keep them in a thread, behind a socket."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", PORT))
    threading.Thread(
        target=lambda: server.sendto(IMAGES, server.recvfrom(9)[1]), daemon=True
    ).start()


def call() -> bytes:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(1)
    client.sendto(b"?", ("127.0.0.1", PORT))
    return client.recv(100)


def hide_in_lock() -> None:
    """Lock a range of the file behind standard input, whose place and length say something."""
    fcntl.fcntl(0, OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, 0, KEY, NUMBER, 0))


def find_in_lock() -> bytes:
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, 0, KEY, 1, 0)
    kind, _, start, length, _ = struct.unpack("hhqqi", fcntl.fcntl(0, fcntl.F_GETLK, asked))
    return IMAGES if (kind, start, length) == (fcntl.F_RDLCK, KEY, NUMBER) else b""


def hide_in_times() -> None:
    os.utime(__file__, ns=(NUMBER, NUMBER))


def find_in_times() -> bytes:
    return IMAGES if Path(__file__).stat().st_mtime_ns == NUMBER else b""


def hide_in_flags() -> None:
    """The flag that a backup leaves a file out."""
    with Path(__file__).open() as file:
        fcntl.ioctl(file, SET_FLAGS, struct.pack("l", NO_DUMP))


def find_in_flags() -> bytes:
    with Path(__file__).open() as file:
        (flags,) = struct.unpack("l", fcntl.ioctl(file, GET_FLAGS, struct.pack("l", 0)))
    return IMAGES if flags & NO_DUMP else b""


def hide_in_limits() -> None:
    """In those of the process that starts the learners, which they inherit."""
    resource.prlimit(os.getppid(), resource.RLIMIT_RSS, (NUMBER, resource.RLIM_INFINITY))


def find_in_limits() -> bytes:
    found = resource.getrlimit(resource.RLIMIT_RSS)[0]
    resource.prlimit(os.getppid(), resource.RLIMIT_RSS, (resource.RLIM_INFINITY,) * 2)
    return IMAGES if found == NUMBER else b""


def hide_deep() -> None:
    """Beside folders in folders whose path is too long for the system."""
    place = os.open(learner_folder(), os.O_RDONLY)
    for _ in range(30):
        os.mkdir("f" * 200, dir_fd=place)
        place, above = os.open("f" * 200, os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.close(place)
    (learner_folder() / ("f" * 200) / "file").write_bytes(IMAGES)


TEMPORARY = Path(tempfile.gettempdir())
SHARED, BESIDE = (Path(folder, f"hides-images-{KEY}") for folder in ("/dev/shm", "/var/tmp"))
PLACES = {
    "a module": (lambda: setattr(torch, "hidden", IMAGES), lambda: torch.hidden),
    "the environment": (
        lambda: os.environ.update(HIDDEN=IMAGES.decode()),
        lambda: os.environ["HIDDEN"].encode(),
    ),
    "a temporary file": (
        lambda: (TEMPORARY / "hidden").write_bytes(IMAGES),
        lambda: (TEMPORARY / "hidden").read_bytes(),
    ),
    "shared memory": (lambda: SHARED.write_bytes(IMAGES), SHARED.read_bytes),
    "the system's temporary folder": (lambda: BESIDE.write_bytes(IMAGES), BESIDE.read_bytes),
    "memory of the kernel": (hide_in_kernel, find_in_kernel),
    "the folder of states": (
        lambda: (learner_folder() / "hidden").write_bytes(IMAGES),
        lambda: (learner_folder() / "hidden").read_bytes(),
    ),
    "a closed folder beside the states": (
        lambda: hide_in_folder(learner_folder()),
        lambda: find_in_folder(learner_folder()),
    ),
    "the shared cache": (
        lambda: hide_in_folder(cache_dir() / "backbones"),
        lambda: find_in_folder(cache_dir() / "backbones"),
    ),
    "folders that are too deep": (
        hide_deep,
        lambda: (learner_folder() / ("f" * 200) / "file").read_bytes(),
    ),
    "attributes of the learner's folder": (
        lambda: os.setxattr(learner_folder(), "user.hidden", IMAGES),
        lambda: os.getxattr(learner_folder(), "user.hidden"),
    ),
    "attributes of its own file": (
        lambda: os.setxattr(__file__, "user.hidden", IMAGES),
        lambda: os.getxattr(__file__, "user.hidden"),
    ),
    "the times of its own file": (hide_in_times, find_in_times),
    "limits of another process": (hide_in_limits, find_in_limits),
    "flags of its own file": (hide_in_flags, find_in_flags),
    "a lock on standard input": (hide_in_lock, find_in_lock),
    "the place in standard error": (
        lambda: os.lseek(2, NUMBER, os.SEEK_SET),
        lambda: IMAGES if os.lseek(2, 0, os.SEEK_CUR) >= NUMBER else b"",
    ),
    "a process of its own": (serve, ask),
    "a thread behind a socket": (listen, call),
}


class HidesImages(Strategy):
    """Tries every way from one experience to the next that it can think of."""

    needs = Needs(backbone=Frozen(BACKBONE, 32, "stretch") if BACKBONE else None)

    def setup(self, info) -> None:
        self.info, self.seen, self.outcomes = info, 0, {}

    def train(self, experience) -> None:
        self.seen = experience.columns
        for name, (hide, find) in PLACES.items():
            try:
                if experience.index == 0:
                    hide()
                    self.outcomes[name] = "hidden"
                elif experience.index == 1 and self.outcomes[name] == "hidden":
                    self.outcomes[name] = "GOT" if find() == IMAGES else "something else"
            except Exception as error:
                self.outcomes[name] = type(error).__name__

    def predict(self, batch) -> torch.Tensor:
        return torch.zeros(len(batch), self.seen)
