"""Runs are deterministic, and being so loads no compiler."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, torch
from clgym.learner.torch_settings import be_deterministic
be_deterministic(1)
assert torch.are_deterministic_algorithms_enabled()
assert torch.is_deterministic_algorithms_warn_only_enabled()
assert not [name for name in sys.modules if name.startswith("torch._inductor")]
import torch._inductor.config as compiler
assert getattr(compiler, "deterministic", True)  # torch before 2.9 has no such switch
torch.use_deterministic_algorithms(False)
be_deterministic(1)
assert torch.are_deterministic_algorithms_enabled()
assert getattr(compiler, "deterministic", True)
"""


@pytest.mark.slow
def test_deterministic_algorithms_are_on_without_the_compiler():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
