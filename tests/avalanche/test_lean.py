"""What importing costs, each in a process of its own."""

import subprocess
import sys

import pytest

HEAVY = ("jax", "wandb", "torchmetrics", "scipy.signal")


def run(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_the_package_alone_imports_neither_torch_nor_avalanche():
    code = "import sys, clgym.avalanche; print(*{'torch', 'avalanche'} & set(sys.modules), '-')"
    assert run(code) == ["-"]


def test_avalanche_comes_without_what_it_does_not_use():
    """And what was left out works when it is used: GEM's solver, the metric with torchmetrics."""
    code = f"""
import sys, clgym.avalanche, avalanche.training, torch, numpy as np
print(*[m for m in {HEAVY} if m in sys.modules], "-")
from avalanche.training.plugins.gem import qpsolvers
answer = qpsolvers.solve_qp(np.eye(2), np.array([-1.0, -2.0]), solver="quadprog")
assert np.allclose(answer, [1, 2])
from avalanche.evaluation.metrics.topk_acc import TopkAccuracy
metric = TopkAccuracy(2)
metric.update(torch.eye(3), torch.tensor([0, 1, 2]), 0)
print(float(metric.result()[0]))
"""
    assert run(code) == ["-", "1.0"]


@pytest.mark.slow
def test_a_trap_that_lean_importing_covers():
    """The day Avalanche no longer imports all this, `_lean` can go."""
    code = f"import sys, avalanche; print(*[m for m in {HEAVY} if m in sys.modules])"
    assert set(run(code)) >= {"wandb", "torchmetrics"}
