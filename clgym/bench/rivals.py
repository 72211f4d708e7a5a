"""The other sides of comparisons: loops of plain torch, and Avalanche with its defaults."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

__all__ = ["BenchImages", "avalanche_run", "bare_answers", "bare_epoch", "quiet"]


class BenchImages:
    """Images and labels in memory.

    Attributes:
        pixels: uint8 [n, C, H, W], on the device.
        labels: int64 [n], on the device.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, device: str) -> None:
        """Move pixels and labels to the device."""
        self.pixels, self.labels = pixels.to(device).contiguous(), labels.to(device)

    def rows(self, rows: Tensor) -> Tensor:
        """Images in [0, 1], float32 [n, C, H, W]."""
        return self.pixels[rows].float().mul_(1 / 255)


def bare_epoch(
    network: nn.Module, images: BenchImages, size: int, memory: BenchImages | None = None
) -> Callable[[], None]:
    """Return a function that executes an epoch of stochastic gradient descent.

    Args:
        network: Network to train.
        images: Images to train on.
        size: Number of images per batch.
        memory: Memory, of which as many images join every batch, and to which new ones are added.
    """
    network.train()

    def epoch() -> None:
        optimizer = torch.optim.SGD(network.parameters(), 0.03)
        order = torch.randperm(len(images.labels)).to(images.labels.device)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            batch, labels = images.rows(rows), images.labels[rows]
            if memory is not None:
                drawn = torch.randperm(len(memory.labels))[:size].to(rows.device)
                batch = torch.cat([batch, memory.rows(drawn)])
                labels = torch.cat([labels, memory.labels[drawn]])
                _take_up(memory, images, rows, start)
            optimizer.zero_grad()
            cross_entropy(network(batch), labels).backward()
            optimizer.step()

    return epoch


def _take_up(memory: BenchImages, images: BenchImages, rows: Tensor, seen: int) -> None:
    """Update a reservoir, whose slots are drawn for the whole batch at once."""
    capacity, count = len(memory.labels), len(rows)
    drawn = (torch.rand(count) * (capacity + seen + torch.arange(count))).long().to(rows.device)
    kept = drawn < capacity
    memory.pixels[drawn[kept]] = images.pixels[rows[kept]]
    memory.labels[drawn[kept]] = images.labels[rows[kept]]


def bare_answers(network: nn.Module, images: BenchImages, size: int) -> Callable[[], Tensor]:
    """Return a function that computes the logits of all images."""
    network.eval()

    @torch.no_grad()
    def answers() -> Tensor:
        found = [
            network(images.pixels[start : start + size].float().mul_(1 / 255))
            for start in range(0, len(images.labels), size)
        ]
        return torch.cat(found).cpu()

    return answers


def avalanche_run(
    network: nn.Module, images: BenchImages, size: int, memory_size: int = 0, parts: int = 1
) -> tuple[Any, Any]:
    """Avalanche's Naive or Replay with its default loader and evaluator, and its stream.

    Args:
        network: Network to train.
        images: Images to train on.
        size: Number of images per batch.
        memory_size: Number of images of Replay's memory; 0 means Naive.
        parts: Number of experiences, each with equally many classes.
    """
    from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.training import Naive, Replay
    from torch.utils.data import TensorDataset

    pixels, labels = images.pixels.cpu().float().mul_(1 / 255), images.labels.cpu()
    datasets = []
    for part in range(parts):
        rows = (labels % parts == part).nonzero()[:, 0]
        dataset: Any = TensorDataset(pixels[rows], labels[rows])
        dataset.targets = labels[rows].tolist()
        datasets.append(as_classification_dataset(dataset))
    stream: Any = with_classes_timeline(benchmark_from_datasets(train=datasets))
    device = images.labels.device
    options: dict[str, Any] = {  # of either class
        "model": network.to(device), "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(network.parameters(), 0.03),
        "train_mb_size": size, "eval_mb_size": 256, "train_epochs": 1, "device": device,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = Replay(mem_size=memory_size, **options) if memory_size else Naive(**options)
    for logger in made.evaluator.loggers:
        logger.file = io.StringIO()
    return made, stream.train_stream


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide Avalanche's progress bars, which are still computed, from the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
