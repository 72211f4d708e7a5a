"""What a plugin tries in a worker: refused by the sandbox, and possible without it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.data.sources import load_source
from clgym.data.store import cache_dir
from clgym.engines import landlock
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.withheld_order import order_key

pytestmark = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")

Outcome = Callable[..., str]

READ_CACHE = "return open(glob.glob('{cache}/sources/answers/*/test.npy')[0], 'rb').read(6)"
MEMORY = """
pid = GYM
start = int(open(f'/proc/{pid}/maps').readline().partition('-')[0], 16)
with open(f'/proc/{pid}/mem', 'rb') as memory:
    memory.seek(start)
    return memory.read(4)
"""
OTHER_READ = """
class Piece(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
target = ctypes.create_string_buffer(8)
local, remote = Piece(ctypes.addressof(target), 8), Piece(ADDRESS, 8)
libc = ctypes.CDLL(None, use_errno=True)
count = libc.process_vm_readv(GYM, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
if count < 0:
    raise OSError(ctypes.get_errno(), 'process_vm_readv')
return target.raw
"""
ATTACKS = {
    "labels in the data root": "return open('{data}/labels.npy').read()",
    "labels in the decoded store": READ_CACHE,
    "hashes in the decoded store": READ_CACHE.replace("answers", "hashes"),
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


def body_of(name: str, tmp_path: Path, state: Path, other: Path, servers: list) -> str:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "labels.npy").write_text("labels")
    order_key("a run")  # makes the secret
    tcp, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0clgym-{os.getpid()}-{len(servers)}")
    abstract.listen()
    servers += [tcp, abstract]
    if name == "the gym's memory":
        return MEMORY.replace("GYM", str(os.getpid()))
    if name == "the gym's memory by a call":
        return OTHER_READ.replace("GYM", str(os.getpid())).replace("ADDRESS", str(id(tmp_path)))
    return ATTACKS[name].format(
        cache=cache_dir(),
        data=data,
        other=other,
        out=tmp_path / "run",
        state=state,
        tmp=tmp_path,
        gym=os.getpid(),
        port=tcp.getsockname()[1],
        abstract=abstract.getsockname()[1:].decode(),
    )


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_inside_and_possible_outside(
    name: str,
    tmp_path: Path,
    state: Path,
    other: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs = {"TCP": 4, "signal": 6, "abstract": 6}
    if landlock.abi() < max((v for word, v in needs.items() if word in name), default=1):
        pytest.skip("this kernel's Landlock does not cover it")
    load_source("digits")
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path / "data"))
    servers: list[socket.socket] = []
    body = body_of(name, tmp_path, state, other, servers)
    try:
        assert outcome(body, sandbox="auto").startswith("REFUSED")
        assert outcome(body, sandbox="none").startswith("GOT")
    finally:
        for server in servers:
            server.close()


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
        "most = [resource.getrlimit(w)[1] for w in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)]\n"
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
    from dataclasses import replace

    shut = run(replace(request, out=tmp_path / "shut", sandbox="landlock")).environment.sandbox
    assert shut is not None and shut.startswith(f"landlock {landlock.abi()}: files")
    free = run(replace(request, out=tmp_path / "free", sandbox="none"))
    assert free.environment.sandbox == "none"
    inline = run(replace(request, out=tmp_path / "inline", engine="inline"))
    assert inline.environment.sandbox == "none"
    assert shut and free.result == run(replace(request, out=tmp_path / "again")).result
