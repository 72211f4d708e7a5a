"""Batch normalisation cannot take a last batch of one image: it joins the batch before."""

from pathlib import Path

import pytest
import torch

from clgym.avalanche.feed import _merged
from clgym.data.experience import Experience
from clgym.errors import Incompatible
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.models.fitting import SessionTraining, TrainedConfig


def experience(rows: int, least: int = 2) -> Experience:
    pixels, labels = torch.arange(rows).view(-1, 1, 1, 1), torch.arange(rows)
    made = Experience(0, pixels, labels, classes=(0,), columns=1, seed=3, scale=1.0)
    made.min_batch = least
    return made


@pytest.mark.parametrize(
    ("rows", "size", "wanted"),
    [
        (8, 7, [8]),
        (15, 7, [7, 8]),
        (9, 7, [7, 2]),
        (14, 7, [7, 7]),
        (1, 7, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(rows, size, wanted):
    made = experience(rows)
    batches = list(made.batches(size))
    assert [len(batch) for batch in batches] == wanted
    assert made.steps(size) == len(wanted)
    assert made.merges(size) == (wanted[-1] > size)
    assert sorted(torch.cat([b.images.flatten() for b in batches]).tolist()) == list(range(rows))
    assert made.images == rows


def test_the_order_is_that_of_unmerged_batches_and_a_run_goes_on_from_the_merged_one():
    plain = torch.cat([b.images.flatten() for b in experience(15, 1).batches(7, epoch=2)])
    made = experience(15)
    assert torch.equal(torch.cat([b.images.flatten() for b in made.batches(7, epoch=2)]), plain)
    (last,) = made.batches(7, epoch=2, start=1)
    assert torch.equal(last.images.flatten(), plain[7:])


@pytest.mark.parametrize(
    ("sizes", "least", "wanted"),
    [
        ([7, 1], 2, [(8, 8)]),
        ([7, 7, 1], 2, [(7, 7), (8, 8)]),
        ([7, 2], 2, [(7, 7), (2, 2)]),
        ([7, 1], 1, [(7, 7), (1, 1)]),
        ([14, 8], 2, [(14, 7), (8, 7)]),  # half of each from a memory
        ([], 2, []),
    ],
)
def test_the_loaders_of_avalanche_are_merged_alike(sizes, least, wanted):
    loader = [[torch.zeros(n, 1), torch.zeros(n), torch.zeros(n)] for n in sizes]
    found = list(_merged(loader, 7, least))
    assert [(len(parts[1]), new) for parts, new in found] == wanted
    assert all(len(part) == len(parts[0]) for parts, _ in found for part in parts)


def test_training_that_does_not_merge_names_the_single_image():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(1))
    training = SessionTraining(TrainedConfig(epochs=1, batch_size=7, image_size=1))
    with pytest.raises(Incompatible, match="one image, of 8 in batches of 7"):
        training.run(
            experience(8, 1), network.parameters(), lambda batch: network(batch.images).sum()
        )


STREAM = {"classes": (0, 1, 2, 3), "per_class": (4, 5)}
SMALL = {"network": "resnet18", "batch_size": 7}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "stream"),
    [
        ("naive", "split-digits"),
        ("derpp", "split-digits"),
        ("dst", "task-digits"),
        ("avalanche:Replay", "split-digits"),
        ("avalanche:ICaRL", "split-digits"),
    ],
)
def test_every_strategy_merges_the_last_batch_and_records_it(strategy, stream, tmp_path: Path):
    options = {**SMALL, "epochs": 1}
    request = Request(strategy, stream, None, options, STREAM, out=tmp_path / "run")
    record = run(request)
    assert record.cost.own["merged_batches"] >= 1


@pytest.mark.slow
def test_without_batch_normalisation_nothing_is_merged(tmp_path: Path):
    options = {"batch_size": 7}
    request = Request("naive", "split-digits", None, options, STREAM, out=tmp_path / "run")
    assert "merged_batches" not in run(request).cost.own


@pytest.mark.slow
def test_single_images_alone_are_refused_by_name(tmp_path: Path):
    options = {**SMALL, "batch_size": 1}
    request = Request("naive", "split-digits", None, options, STREAM, out=tmp_path / "run")
    with pytest.raises(Incompatible, match="--batch-size 2"):
        run(request)
