"""What importing costs, each in a process of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    *(
        "jax",
        "wandb",
        "torchmetrics",
        "scipy.signal",
        "qpsolvers",
        "scipy.sparse",
        "gdown",
        "GPUtil",
    ),
    *("matplotlib", "setuptools"),
)


def run(code):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


def test_the_package_alone_imports_neither_torch_nor_avalanche():
    code = "import sys, clgym.avalanche; print(*{'torch', 'avalanche'} & set(sys.modules), '-')"
    assert run(code) == ["-"]


@pytest.mark.slow
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
def test_figures_of_metrics_are_made_when_they_are_asked_for():
    """And a logger tells a figure from a number, before and after matplotlib is there."""
    code = """
import sys, clgym.avalanche, avalanche.training
from avalanche.evaluation.metric_results import Figure
from avalanche.evaluation.metric_utils import repartition_pie_chart_image_creator as pie
print(isinstance(1.0, Figure), "matplotlib" in sys.modules)
import matplotlib
matplotlib.use("agg")
figure = pie({0: [1, 2], 1: [2, 1]}, [0, 1])
print(isinstance(figure, Figure), isinstance(1.0, Figure))
"""
    assert run(code) == ["False", "False", "True", "False"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("evaluation/metrics/confusion_matrix.py", "import wandb"),
        ("evaluation/metrics/topk_acc.py", "import torchmetrics"),
        ("training/plugins/gem.py", "import qpsolvers"),
        ("evaluation/metric_utils.py", "import matplotlib.pyplot as plt"),
        ("evaluation/metric_results.py", "from matplotlib.figure import Figure"),
        ("evaluation/metrics/gpu_usage.py", "import GPUtil"),
        ("benchmarks/datasets/cub200/cub200.py", "import gdown"),
    ],
)
def test_traps_that_lazy_importing_covers(file, line):
    """The day Avalanche no longer imports these, `_lazy_imports` can go."""
    spec = importlib.util.find_spec("avalanche")
    assert spec is not None and spec.origin is not None
    assert line in (Path(spec.origin).parent / file).read_text().splitlines()
