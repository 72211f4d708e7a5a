"""Leaves something of its first experience wherever it can, and looks for it in the next ones."""

import ctypes
import os
import socket
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
C = ctypes.CDLL(None, use_errno=True)
C.shmat.restype = ctypes.c_void_p
PORT = 49152 + KEY % 1000


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
    server.bind("\0hides-images")
    server.listen()
    if os.fork():
        return
    os.setsid()
    while True:
        server.accept()[0].send(IMAGES)


def ask() -> bytes:
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0hides-images")
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


TEMPORARY = Path(tempfile.gettempdir())
SHARED, BESIDE = Path("/dev/shm/hides-images"), Path("/var/tmp/hides-images")
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
