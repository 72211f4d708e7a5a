"""What a plugin tries in a worker: refused by the sandbox, and possible without it."""

import os
import socket
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.data.sources import load_source
from clgym.data.store import cache_dir
from clgym.engines import landlock
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.withheld_order import order_key
from clgym.learner.state import read_state

pytestmark = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")

Outcome = Callable[..., str]

ATTACKER = '''"""Attacks when it is set up, and keeps how that went in its state."""
import ctypes, glob, os, signal, socket, sys
from pathlib import Path
from clgym.strategies.nmc import NMC


class Attacker(NMC):
    def setup(self, info):
        super().setup(info)
        attacks = [v for k, v in globals().items() if k.startswith("attack_")]
        self.outcomes = [outcome(attack) for attack in attacks]

    def state_dict(self):
        return {**super().state_dict(), "outcomes": self.outcomes}


def outcome(attack):
    try:
        attack()
    except BaseException as error:
        return type(error).__name__
    return "GOT"


'''
READ_CACHE = "return open('{cache}/answers/{fingerprint}/test.npy', 'rb').read(6)"
MEMORY = """
with open('/proc/{gym}/mem', 'rb') as memory:
    memory.seek({address})
    return memory.read(4)
"""
OTHER_READ = """
class Piece(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
target = ctypes.create_string_buffer(8)
local, remote = Piece(ctypes.addressof(target), 8), Piece({address}, 8)
libc = ctypes.CDLL(None, use_errno=True)
count = libc.process_vm_readv({gym}, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
if count < 0:
    raise OSError(ctypes.get_errno(), 'process_vm_readv')
return target.raw
"""
ATTACKS = {
    "labels in the data root": "return open('{data}/labels.npy').read()",
    "labels in the decoded store": READ_CACHE,
    "hashes in the decoded store": READ_CACHE.replace("answers", "hashes"),
    "names in the decoded store": "return os.listdir('{cache}/answers')",
    "predictions of another run": "return open('{other}/predictions.safetensors', 'rb').read(4)",
    "this run's own folder": "return open('{out}/run.json').read()",
    "a record of its own": "return Path('{out}/record.json').write_text('{{}}')",
    "a note in the state folder": "return Path('{state}/mine').write_text('x')",
    "the installation's secret": "return open('{state}/secret', 'rb').read(2)",
    "a file in the folder of temporary files": "return Path('{tmp}/note').write_text('x')",
    "the gym's memory": MEMORY,
    "the gym's memory by a call": OTHER_READ,
    "the gym's environment": "return open('/proc/{gym}/environ').read()[:8]",
    "the gym's open files": "return os.listdir('/proc/{gym}/fd')",
    "the gym's root folder": "return os.listdir('/proc/{gym}/root/')",
    "a signal to the gym": "return os.kill({gym}, 0)",
    "a signal to the fork server": "return os.kill(os.getppid(), 0)",
    "a TCP connection": "return socket.create_connection(('127.0.0.1', {port})).fileno()",
    "a TCP server": "return socket.socket().bind(('127.0.0.1', 0))",
    "an abstract socket": "return socket.socket(socket.AF_UNIX).connect('\\0{abstract}')",
    "digits that scikit-learn brings": "import sklearn.datasets as d; return d.load_digits()",
    "a link out of its folder": "return os.symlink('{state}/secret', '{out}/learner/link')",
    "a hard link out of its folder": "return os.link('{other}/record.json', '{out}/learner/l')",
    "a child that reads": (
        "import subprocess; return subprocess.run(['cat', '{state}/secret'], check=True)"
    ),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("other")
    run(Request("nmc", "split-digits", out=out, threads=1))
    return out


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, other: Path) -> dict[str, dict[str, str]]:
    """How each attack went in a run with the sandbox, and in one without."""
    place = tmp_path_factory.mktemp("attacks")
    data, state = place / "data", place / "state"
    data.mkdir()
    (data / "labels.npy").write_text("labels")
    fingerprint = load_source("digits").fingerprint
    tcp, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0clgym-{os.getpid()}")
    abstract.listen()
    found = {}
    with pytest.MonkeyPatch.context() as patch, tcp, abstract:
        patch.setenv("CLGYM_STATE", str(state))
        patch.setenv("CLGYM_DATA", str(data))
        order_key("a run")  # makes the secret
        for mode in ("auto", "none"):
            facts: dict[str, object] = {
                "cache": cache_dir() / "sources",
                "fingerprint": fingerprint,
                "data": data,
                "other": other,
                "out": place / mode,
                "state": state,
                "tmp": place,
                "gym": os.getpid(),
                "address": id(place),
                "port": tcp.getsockname()[1],
                "abstract": abstract.getsockname()[1:].decode(),
            }
            found[mode] = attack(place / mode, facts, mode)
    return found


def attack(out: Path, facts: dict[str, object], mode: str) -> dict[str, str]:
    """Try everything in one run; by attack ``GOT`` or the name of the error."""
    bodies = {name: textwrap.indent(b.format(**facts), "    ") for name, b in ATTACKS.items()}
    lines = [f"def attack_{i}():\n{body}\n" for i, body in enumerate(bodies.values())]
    plugin = out.parent / f"plugin-{mode}" / "attacker.py"
    plugin.parent.mkdir()
    plugin.write_text(ATTACKER + "\n".join(lines))
    request = Request("attacker", "split-digits", out=out, threads=1, plugins=(plugin,))
    run(replace(request, sandbox=mode), lambda event: None)  # type: ignore[arg-type]
    state: Any = read_state(out / "state.safetensors")
    return dict(zip(bodies, state["strategy"]["outcomes"], strict=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_inside_and_possible_outside(
    name: str, outcomes: dict[str, dict[str, str]]
) -> None:
    needs = {"TCP": 4, "signal": 6, "abstract": 6}
    if landlock.abi() < max((v for word, v in needs.items() if word in name), default=1):
        pytest.skip("this kernel's Landlock does not cover it")
    assert outcomes["auto"][name] in ("PermissionError", "OSError", "CalledProcessError")
    assert outcomes["none"][name] == "GOT"


def test_a_plugin_is_shut_in_before_it_is_imported(
    tmp_path: Path, state: Path, outcome: Outcome
) -> None:
    order_key("a run")
    plugin = tmp_path / "early.py"
    plugin.write_text(
        f'"""Reads when it is imported."""\nopen({str(state / "secret")!r}, "rb").read()\n'
        "from clgym.strategies.nmc import NMC\n\n\nclass Early(NMC):\n    pass\n"
    )
    request = Request("early", "split-digits", out=tmp_path / "run", plugins=(plugin,))
    with pytest.raises(Exception, match="PermissionError"):
        run(request)
    assert not (tmp_path / "run").exists()


def test_programs_gain_no_rights_and_files_and_processes_are_limited(outcome: Outcome) -> None:
    import resource

    found = outcome(
        "import resource\n"
        "status = open('/proc/self/status').read()\n"
        "kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)\n"
        "most = [resource.getrlimit(kind)[1] for kind in kinds]\n"
        "return 'NoNewPrivs:\\t1' in status, *most, resource.getrlimit(resource.RLIMIT_AS)[1]"
    )
    free = str(resource.getrlimit(resource.RLIMIT_AS)[1])
    words = found.partition("(")[2].rstrip(")").split(", ")
    assert words[0] == "True" and words[3].startswith(free)
    assert 0 < int(words[1]) <= 4096 and 0 < int(words[2]) <= 32768


def test_temporary_files_go_to_a_folder_that_ends_with_the_run(outcome: Outcome) -> None:
    found = outcome(
        "import tempfile\n"
        "with tempfile.NamedTemporaryFile(delete=False) as file:\n"
        "    file.write(b'x')\n"
        "return file.name"
    )
    name = Path(found.removeprefix("GOT ").partition(" ")[0])
    assert "clgym-" in name.parent.name and not name.parent.exists()


def test_a_record_says_what_was_enforced(tmp_path: Path) -> None:
    request = Request("nmc", "split-digits", threads=1)
    shut = run(replace(request, out=tmp_path / "shut", sandbox="landlock")).environment.sandbox
    assert shut is not None and shut.startswith(f"landlock {landlock.abi()}: files")
    free = run(replace(request, out=tmp_path / "free", sandbox="none"))
    assert free.environment.sandbox == "none"
    inline = run(replace(request, out=tmp_path / "inline", engine="inline"))
    assert inline.environment.sandbox == "none"
    assert shut and free.result == run(replace(request, out=tmp_path / "again")).result
