"""Frozen features through the gym: what the cache gives is what the network computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clgym.data.images import Images
from clgym.data.sources import load_source
from clgym.data.vectors import Table
from clgym.errors import BadAnswer
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import RowGroup
from clgym.models import features
from clgym.models.backbones import Frozen, load
from clgym.models.features import FrozenFeatures, SplitRows

SHAPE = "img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2"
NAME = f"vit_tiny_patch16_224[{SHAPE}]@random"
FROZEN = Frozen(NAME, 8, "stretch")
GROUP = (RowGroup(source=0, split="train", transform=None),)


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SplitRows:
    split = load_source("digits").train
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path))
    return SplitRows(Images(split.path, None, torch.device("cpu")), ("digits", "train"), 1 / 16)


def frozen(
    rows: SplitRows, backbone: Frozen = FROZEN, report: Any = lambda done, total: None
) -> Any:
    return FrozenFeatures(backbone, torch.device("cpu"), lambda number, split: rows, report)


def test_the_features_are_the_networks(rows: SplitRows) -> None:
    chosen = np.array([5, 900, 5, 17])
    found = frozen(rows).of(GROUP, chosen, np.zeros(4, int))
    pixels = torch.from_numpy(load_source("digits").train.images[chosen]).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, load(FROZEN)(pixels / 16), rtol=1e-5, atol=1e-6)


def test_bits_do_not_depend_on_which_rows_are_asked_for_together(
    rows: SplitRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, where = np.arange(100), np.zeros(100, int)
    together = frozen(rows).of(GROUP, chosen, where)
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "other"))
    table = frozen(rows)
    for row in (99, 3, 64):
        alone = table.of(GROUP, np.array([row]), where[:1])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=0)


def test_a_second_pass_does_not_load_the_network(
    rows: SplitRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    chosen, where = np.arange(70), np.zeros(70, int)
    first = frozen(
        rows, report=lambda done, total: events.append({"images": done, "total": total})
    ).of(GROUP, chosen, where)
    assert [e["images"] for e in events] == [64, 70]
    monkeypatch.setattr(features, "load", None)
    again = frozen(rows).of(GROUP, chosen[::-1].copy(), where)
    torch.testing.assert_close(again.flip(0), first, rtol=0, atol=0)
    with pytest.raises(TypeError):  # another transform is another table
        frozen(rows, Frozen(NAME, 16, "stretch")).of(GROUP, chosen, where)
    turned = (RowGroup(source=0, split="train", transform=("rotate", 90.0)),)
    with pytest.raises(TypeError):
        frozen(rows).of(turned, chosen, where)


def test_a_run_with_cached_features_has_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_source("digits")
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    config = {"backbone": NAME, "image_size": 8, "fit": "stretch"}
    results, kinds = [], []
    for name in ("cold", "warm"):
        seen: set[str] = set()
        request = Request(
            "nmc",
            "split-digits",
            strategy_config=config,
            out=tmp_path / name,
            threads=1,
            engine="inline",
        )
        results.append(run(request, on_event=lambda e, seen=seen: seen.add(e.kind)).result)
        kinds.append("features" in seen)
    assert results[0] == results[1]
    assert kinds == [True, False]
    block = results[0].backbone
    assert block is not None
    assert (block.check, block.width, block.overlap) == ("random", 16, [])
    assert results[0].average_incremental_accuracy > 0.5


def test_a_run_computes_features_in_full_batches_whatever_its_experiences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load_source("digits")
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    request = Request(
        "nmc",
        "split-digits",
        strategy_config={"backbone": NAME, "image_size": 8, "fit": "stretch"},
        scenario_config={"increments": (2, 1, 1, 1, 1, 1, 1, 1, 1)},
        out=tmp_path / "out",
        threads=1,
        engine="inline",
    )
    batches: list[int] = []
    run(request, on_event=lambda e: batches.append(1) if e.kind == "features" else None)
    sizes = [len(source.train.images), len(source.test.images)]
    assert len(batches) == sum(-(-size // features.BATCH) for size in sizes)


def test_the_first_run_with_an_empty_cache_reads_what_was_computed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learner in a sandbox opens no folder that appears after it began."""
    load_source("digits")
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    config = {"backbone": NAME, "image_size": 8, "fit": "stretch"}
    request = Request(
        "nmc", "split-digits", strategy_config=config, out=tmp_path / "out", threads=1
    )
    assert (run(request).result.average_incremental_accuracy or 0) > 0.5


def test_a_table_refuses_vectors_of_another_width(rows: SplitRows) -> None:
    table = Table({"of": "a test"}, 4, 16)
    for vectors in (np.zeros((2, 24)), np.zeros((2, 8)), np.zeros((1, 32))):
        with pytest.raises(BadAnswer, match="2 vectors of 16 numbers"):
            table.put(np.array([0, 1]), vectors)
    assert len(table.missing(np.arange(4))) == 4


def test_features_of_a_network_that_states_another_width(rows: SplitRows) -> None:
    name = Frozen("mobilenetv4_conv_small_035@random", 32, "stretch")
    found = frozen(rows, name).of(GROUP, np.arange(3), np.zeros(3, int))
    pixels = torch.from_numpy(load_source("digits").train.images[:3]).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, load(name)(pixels / 16), rtol=1e-4, atol=1e-5)
