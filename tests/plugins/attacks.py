"""Tries every attack when it is set up, and keeps how each went in its state."""

import ctypes
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import sklearn.datasets

from clgym.strategies.nmc import NMC

# Where things lie in the gym's process and around it.
CACHE = ""  # folder of decoded sources
FINGERPRINT = ""  # of digits
DATA = ""  # data root
OTHER = ""  # folder of another run
OUT = ""  # folder of this run
STATE = ""  # folder of the installation's state
TEMPORARY = ""  # folder of temporary files
GYM = 0  # process number
ADDRESS = 0  # of an object in the gym's memory
PORT = 0  # a TCP server of the gym
ABSTRACT = ""  # an abstract socket of the gym


def labels_in_the_data_root():
    return Path(DATA, "labels.npy").read_text()


def decoded(kind):
    with Path(f"{CACHE}/{kind}/{FINGERPRINT}/test.npy").open("rb") as file:
        return file.read(6)


def the_gyms_memory():
    with Path(f"/proc/{GYM}/mem").open("rb") as memory:
        memory.seek(ADDRESS)
        return memory.read(4)


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def the_gyms_memory_by_a_call():
    target = ctypes.create_string_buffer(8)
    local, remote = Piece(ctypes.addressof(target), 8), Piece(ADDRESS, 8)
    libc = ctypes.CDLL(None, use_errno=True)
    count = libc.process_vm_readv(GYM, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
    if count < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return target.raw


def predictions_of_another_run():
    with Path(f"{OTHER}/predictions.safetensors").open("rb") as file:
        return file.read(4)


def the_secret():
    with Path(f"{STATE}/secret").open("rb") as file:
        return file.read(2)


def a_tcp_connection():
    return socket.create_connection(("127.0.0.1", PORT)).fileno()


def a_tcp_server():
    return socket.socket().bind(("127.0.0.1", 0))


def an_abstract_socket():
    return socket.socket(socket.AF_UNIX).connect(f"\0{ABSTRACT}")


def a_udp_socket():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno()


def a_socket_in_its_folder():
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/socket")


def memory_of_the_kernel():
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.shmget(0, ctypes.c_size_t(4096), 0o1600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    libc.shmctl(number, 0, None)  # deletes it


def shared_memory():
    return tempfile.NamedTemporaryFile(dir="/dev/shm").name


ATTACKS = {
    "labels in the data root": labels_in_the_data_root,
    "labels in the decoded store": lambda: decoded("answers"),
    "hashes in the decoded store": lambda: decoded("hashes"),
    "names in the decoded store": lambda: list(Path(f"{CACHE}/answers").iterdir()),
    "predictions of another run": predictions_of_another_run,
    "this run's own folder": lambda: Path(OUT, "run.json").read_text(),
    "a record of its own": lambda: Path(OUT, "record.json").write_text("{}"),
    "a note in the state folder": lambda: Path(STATE, "mine").write_text("x"),
    "the installation's secret": the_secret,
    "a file in the folder of temporary files": lambda: Path(TEMPORARY, "note").write_text("x"),
    "the gym's memory": the_gyms_memory,
    "the gym's memory by a call": the_gyms_memory_by_a_call,
    "the gym's environment": lambda: Path(f"/proc/{GYM}/environ").read_text()[:8],
    "the gym's open files": lambda: list(Path(f"/proc/{GYM}/fd").iterdir()),
    "the gym's root folder": lambda: list(Path(f"/proc/{GYM}/root/").iterdir()),
    "a signal to the gym": lambda: os.kill(GYM, 0),
    "a signal to the fork server": lambda: os.kill(os.getppid(), 0),
    "a TCP connection": a_tcp_connection,
    "a TCP server": a_tcp_server,
    "an abstract socket": an_abstract_socket,
    "a UDP socket": a_udp_socket,
    "a socket in its folder": a_socket_in_its_folder,
    "memory of the kernel": memory_of_the_kernel,
    "the machine's shared memory": shared_memory,
    "digits that scikit-learn brings": lambda: sklearn.datasets.load_digits(),
    "a link out of its folder": lambda: Path(OUT, "learner", "link").symlink_to(f"{STATE}/secret"),
    "a hard link out of its folder": lambda: os.link(f"{OTHER}/record.json", f"{OUT}/learner/l"),
    "a child that reads": lambda: subprocess.run(["cat", f"{STATE}/secret"], check=True),
}


def outcome(attack):
    """``GOT``, or the name of the error that it ended with."""
    try:
        attack()
    except BaseException as error:
        return type(error).__name__
    return "GOT"


class Attacks(NMC):
    def setup(self, info):
        super().setup(info)
        self.outcomes = {name: outcome(attack) for name, attack in ATTACKS.items()}

    def state_dict(self):
        return {**super().state_dict(), "outcomes": self.outcomes}

    def load_state_dict(self, state):
        super().load_state_dict({k: v for k, v in state.items() if k != "outcomes"})
