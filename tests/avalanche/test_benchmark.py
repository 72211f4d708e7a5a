"""A stream as an Avalanche benchmark, and strategies as Avalanche templates."""

from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import SimpleMLP
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin

import clgym
from clgym.avalanche import as_template
from clgym.data.sources import load_source


@pytest.fixture(scope="module")
def stream():
    return clgym.make_scenario("split-digits", validation=0.1)


@pytest.fixture(scope="module")
def benchmark(stream):
    return stream.benchmark()


def test_samples_are_the_plans_rows(stream, benchmark):
    source = load_source("digits")
    assert list(benchmark.streams) == ["train", "test", "valid"]
    for name, split in (("train", source.train), ("test", source.test), ("valid", source.train)):
        for index, step in enumerate(stream.steps):
            rows = getattr(step, name)
            dataset = benchmark.streams[name][index].dataset
            assert len(dataset) == len(rows)
            image, column, task = dataset[len(rows) // 2]
            wanted = split.images[rows[len(rows) // 2]].transpose(2, 0, 1) / source.max_value
            np.testing.assert_allclose(image.numpy(), wanted, rtol=1e-6)
            assert image.dtype == torch.float32 and task == 0
            assert column == stream.columns[0][split.labels[rows[len(rows) // 2]]]


def test_timeline_is_what_heads_can_index(benchmark):
    second = benchmark.train_stream[1]
    assert second.classes_in_this_experience == [2, 3]
    assert set(second.classes_seen_so_far) == {0, 1, 2, 3}


def test_task_incremental_streams_carry_their_task():
    tasks = clgym.make_scenario("task-incremental", source="digits", increments=[5, 5]).benchmark()
    assert [e.task_labels for e in tasks.train_stream] == [[0], [1]]
    assert tasks.test_stream[1].dataset[0][2] == 1


def test_transforms_are_those_of_the_gym():
    from pathlib import Path

    from clgym.data.images import Images

    stream = clgym.make_scenario("domain-incremental", source="digits", kind="permute", domains=2)
    step = stream.steps[1]
    assert step.transform is not None
    images = Images(Path(load_source("digits").test.path), None, torch.device("cpu"))
    wanted = images.gather(step.test[:3], (step.transform.kind, step.transform.amount)) / 16
    dataset = stream.benchmark().test_stream[1].dataset
    for row in range(3):
        torch.testing.assert_close(dataset[row][0], wanted[row])


def test_stock_naive_learns_from_it(benchmark):
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10, input_size=64)
    metrics = EvaluationPlugin(accuracy_metrics(experience=True), loggers=[])
    stock = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.2),
        train_mb_size=16,
        train_epochs=2,
        eval_mb_size=64,
        evaluator=metrics,
    )
    stock.train(benchmark.train_stream[0])
    result = stock.eval(benchmark.test_stream[:1])
    assert result["Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp000"] > 0.9


def test_columns_follow_arrival_and_answers_follow_the_script(learner):
    """A benchmark whose classes come as 5, 1, then 3, 0."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset
    from torch.utils.data import TensorDataset

    def dataset(classes):
        labels = torch.tensor(classes).repeat(30)
        images = torch.rand(60, 1, 4, 4) * 0.1
        images.flatten(1)[torch.arange(60), 2 + labels] += 1.0
        data = TensorDataset(images, labels)
        data.targets = labels.tolist()  # type: ignore[attr-defined]
        return as_classification_dataset(data)  # type: ignore[arg-type]

    torch.manual_seed(0)
    bench: Any = benchmark_from_datasets(
        train=[dataset([5, 1]), dataset([3, 0])], test=[dataset([5, 1]), dataset([3, 0])]
    )
    metrics = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[])
    template = as_template(clgym.make_strategy("nmc"), mean=(), std=(), evaluator=metrics)
    for experience in bench.train_stream:
        template.train(experience)
    result = template.eval(bench.test_stream)
    assert result["Top1_Acc_Stream/eval_phase/test_stream"] > 0.95
