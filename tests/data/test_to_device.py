"""Whatever goes to a GPU goes out of pinned memory, and the host does not wait for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crossings import META, crossings

from clgym.api import make_strategy
from clgym.avalanche.contrast import Views
from clgym.data import augment
from clgym.data.images import Images
from clgym.data.memory import Memory
from clgym.data.source_data import SourceData
from clgym.data.to_device import to_device
from clgym.learner.adaptation import to_float
from clgym.strategy import Experience, StreamInfo

CPU = torch.device("cpu")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_on_a_processor_nothing_is_copied() -> None:
    values = torch.arange(3)
    assert to_device(values, CPU) is values


def test_what_is_sent_is_a_copy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's buffer may change while the GPU still reads."""
    made: list[torch.Tensor] = []
    empty_like = torch.empty_like

    def pinned(like: torch.Tensor, *, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        made.append(empty_like(like))
        return made[-1]

    sent: list[tuple[torch.Tensor, dict[str, Any]]] = []

    def to(self: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        sent.append((self, named))
        return self

    monkeypatch.setattr(torch, "empty_like", pinned)
    monkeypatch.setattr(torch.Tensor, "to", to)
    values = torch.arange(3)
    to_device(values, torch.device("cuda"))
    to_device(values, torch.device("cuda"))
    values.zero_()
    assert [(s.tolist(), named) for s, named in sent] == [([0, 1, 2], {"non_blocking": True})] * 2
    assert sent[0][0] is made[0] and sent[1][0] is made[1]


def test_what_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy from a GPU that is not waited for could be read before it is there."""
    asked: list[bool] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda *a, non_blocking: asked.append(non_blocking))
    to_device(torch.zeros(2, device=META), CPU)
    assert asked == [False]


def _images(path: Path) -> Images:
    np.save(path / "images.npy", np.zeros((9, 8, 8, 3), np.uint8))
    return Images(path / "images.npy", 6, META)


def _source(path: Path) -> SourceData:
    for name in "ab":
        np.save(path / f"{name}.npy", np.zeros((5, 8, 8, 3), np.uint8))
    files = [path / "a.npy", path / "b.npy"]
    return SourceData(files, np.arange(10) % 2, 1 / 255, None, META, seed=0)


def _memory(path: Path) -> None:
    memory = Memory(6)
    images = torch.zeros(9, 3, 8, 8, dtype=torch.uint8, device=META)
    memory.add(generator(), pixels=images, labels=torch.zeros(9, dtype=torch.long, device=META))
    memory.draw(4, generator())
    memory.put(torch.tensor([1]), pixels=images[:1], labels=torch.tensor([1]))
    memory.keep(torch.arange(3))
    state = {"seen": 3, "columns": {name: torch.zeros(2) for name in ("pixels", "labels")}}
    Memory(6).load_state_dict(state, META)  # type: ignore[arg-type]


def _augmented(path: Path) -> None:
    batch = torch.zeros(4, 3, 8, 8, device=META)
    for change in augment.AUGMENTATIONS.values():
        if change is not None:
            change(batch, generator())
    augment.random_view(batch, generator(), 0.5, True, 0.4)


@pytest.mark.parametrize(
    "work",
    [
        lambda path: _images(path).gather(np.array([3, 1]), ("permute", 1.0)),
        lambda path: _images(path).gather(np.array([3, 1]), ("rotate", 30.0)),
        lambda path: _source(path).batch(6, 0),
        lambda path: to_float(np.zeros((4, 8, 8, 3), np.uint8), 6, META),
        _memory,
        _augmented,
        lambda path: Views()(torch.zeros(4, 3, 8, 8, device=META)),
    ],
    ids=["permuted", "rotated", "source", "adaptation", "memory", "augmentations", "views"],
)
def test_every_way_to_the_device(work: Callable[[Path], Any], tmp_path: Path) -> None:
    with crossings() as found:
        work(tmp_path)
    assert found.good > 0
    assert found.bad == []


@pytest.mark.parametrize("name", ["naive", "replay", "derpp", "er-ace"])
def test_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Experience, "progress", lambda self, *args, **named: None)
    options: dict[str, Any] = {} if name == "naive" else {"memory_size": 30}
    strategy = make_strategy(name, batch_size=8, network="mlp", augment="crop-flip", **options)
    memory, mean = Memory(options.get("memory_size", 0)), (0.5,) * 3
    facts: Any = ((3, 8, 8), "class-incremental", META, 0, mean, mean)
    strategy.setup(StreamInfo(*facts, total_columns=2, memory=memory))
    with crossings() as found:
        experience = Experience(
            0,
            torch.zeros(40, 3, 8, 8, dtype=torch.uint8, device=META),
            torch.zeros(40, dtype=torch.int64, device=META),
            classes=(0, 1),
            columns=2,
            seed=0,
            scale=1 / 255,
            # The head that has grown is copied before the first batch.
            on_batch=lambda images, looks: found.bad.clear() if experience.step == 0 else None,
        )
        strategy.train(experience)
        experience.close()
    assert found.good >= 5  # a draw for each of five batches, at least
    assert found.bad == []
