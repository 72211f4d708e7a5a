"""What must answer at once: no torch, no Avalanche, and no strategy imported."""

import subprocess
import sys

import pytest

PROBE = """
import sys
from clgym.cli import main
code = main(sys.argv[1:])
heavy = [m for m in ("torch", "avalanche", "sklearn", "matplotlib") if m in sys.modules]
plugins = [m for m in sys.modules if m.startswith("clgym.strategies.")]
print(f"code={code} heavy={heavy} plugins={plugins}")
"""


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 0),
        ("--help", 0),
        ("--version", 0),
        ("list", 0),
        ("list strategies", 0),
        ("list sources --json", 0),
        ("run --help", 0),
        ("show cifar100", 0),
        ("show split-cifar100", 0),
        ("lst", 2),
        ("run", 2),
        ("run nmcc split-digits", 2),
        ("run nmc split-digit", 2),
        ("run nmc split-digits --seed two", 2),
        ("show nmd", 2),
    ],
)
def test_answers_without_heavy_imports(line, code):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *line.split()], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == f"code={code} heavy=[] plugins=[]", done.stderr


def test_the_parent_of_a_run_never_imports_torch_or_the_strategy():
    line = ["run", "nmc", "split-digits", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *line], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines()[-1].replace("'sklearn'", "") == "code=0 heavy=[] plugins=[]"


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "clgym", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("clgym ")


def test_a_closed_pipe_is_no_error():
    line = f"{sys.executable} -m clgym list --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
