"""Every strategy of the catalogue on experiences of one class, of unequal sizes and of one pass."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from clgym import registry
from clgym.avalanche.catalogue import RECIPES
from clgym.config import build
from clgym.errors import Incompatible
from clgym.strategy import Batch, Experience, Memory, Strategy
from factories import stream_info

SHAPE = (1, 6, 6)
STREAMS = {
    "one-class": [((0,), 20), ((1,), 20), ((2,), 20)],
    "unequal": [((0, 1, 2), 60), ((3,), 3), ((4, 5), 17)],
    "few-rows": [((0, 1), 6), ((2,), 2), ((3,), 1)],
}


def stream(parts, task_ids, single_pass):
    """``parts``: classes and rows of each experience."""
    generator, columns = torch.Generator().manual_seed(7), []
    for index, (classes, rows) in enumerate(parts):
        labels = torch.tensor(classes).repeat(rows)[:rows]
        noise = torch.randint(0, 120, (rows, *SHAPE), generator=generator)
        columns.append(classes)
        yield Experience(
            index,
            (noise + 20 * labels[:, None, None, None]).to(torch.uint8),
            labels,
            classes=classes,
            columns=max(classes) + 1,
            seed=0,
            scale=1 / 255,
            task=index if task_ids else None,
            task_columns=tuple(columns) if task_ids else (),
            single_pass=single_pass,
        )


def set_up(
    name: str, setting: Any = "class-incremental", total: int = 6, single_pass=False, **config: Any
) -> Any:
    cls = registry.load_class(registry.find("strategies", f"avalanche:{name}"), Strategy)
    if RECIPES[name].memory:
        config.setdefault("memory_size", 12)
    strategy = cls(build(cls.Config, config, name))
    needs: Any = strategy.needs
    info = stream_info(
        SHAPE,
        setting,
        mean=(0.4,),
        std=(0.2,),
        total_columns=total if needs.total_classes else None,
        single_pass=single_pass,
        memory=Memory(needs.memory),
    )
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    strategy.setup(info)
    return strategy


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["class-incremental", "task-incremental"])
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_it_trains_and_its_state_is_saved(name, kind, setting):
    if setting not in set_up(name, "task-incremental").needs.settings:
        pytest.skip(f"{name} is for other streams")
    parts = STREAMS[kind]
    total = 1 + max(c for classes, _ in parts for c in classes)
    for single_pass, size in ((False, 32), (True, 32), (True, 10)):
        if single_pass and RECIPES[name].rereads:
            continue  # the gym refuses it on such streams
        strategy = set_up(name, setting, total, single_pass, batch_size=size)
        for experience in stream(parts, setting == "task-incremental", single_pass):
            strategy.train(experience)
            experience.close()
            strategy.state_dict()
            with torch.no_grad():
                answer = strategy.predict(Batch(torch.rand(5, *SHAPE), task=experience.task))
            assert answer.shape == (5, experience.columns) and not answer.isnan().any()
            assert len(strategy.info.memory) <= strategy.needs.memory


def test_bic_refuses_an_experience_that_it_would_hold_out_as_a_whole():
    strategy = set_up("BiC", memory_size=60)
    (experience,) = stream([((0, 1), 4)], False, False)
    with pytest.raises(Incompatible, match=r"second stage \(3 of a class\); found 4"):
        strategy.train(experience)


# --- gradient-based sample selection -------------------------------------------------------------


def test_gss_replays_stored_samples_and_no_free_places(monkeypatch):
    """Avalanche's memory begins as black images of class 0, which it replayed with the others."""
    from avalanche.training.plugins import gss_greedy

    replayed = []
    loader = gss_greedy.ReplayDataLoader

    def watched(data, memory, **options):
        replayed.append([int(y) for y in memory.targets])
        return loader(data, memory, **options)

    monkeypatch.setattr(gss_greedy, "ReplayDataLoader", watched)
    strategy = set_up("GSS_greedy", memory_size=30, batch_size=10)
    for experience in stream([((1,), 6), ((2,), 6), ((3,), 6)], False, False):
        strategy.train(experience)
        experience.close()
    assert replayed[0] == [1] * 6
    assert 0 not in replayed[1]


def test_gss_replaces_samples_of_a_memory_that_one_batch_has_filled():
    """Ten rows against a memory of five: scores that are all alike, and fewer places than rows."""
    strategy = set_up("GSS_greedy", memory_size=5, batch_size=10, epochs=20, lr=0.3)
    for experience in stream([((0,), 10), ((1,), 40)], False, False):
        strategy.train(experience)
        experience.close()
    assert len(strategy.info.memory) == 5
    assert 1 in strategy.info.memory["labels"].tolist()


def test_gss_is_avalanches_where_that_one_works(monkeypatch):
    """A memory that is larger than the batches: the same bits with and without the cure."""
    from avalanche.training.plugins.gss_greedy import GSS_greedyPlugin

    def trained():
        strategy = set_up("GSS_greedy", memory_size=48, batch_size=5, epochs=3)
        for experience in stream([((0, 1), 60), ((2, 3), 30)], False, False):
            strategy.train(experience)
            experience.close()
        return strategy.network.state_dict()

    mended = trained()
    for name in ("get_rand_mem_grads", "before_training_exp", "after_forward"):
        monkeypatch.setattr(GSS_greedyPlugin, name, getattr(GSS_greedyPlugin, name).__wrapped__)
    for key, value in trained().items():
        assert torch.equal(mended[key], value), key


# --- supervised contrastive replay ---------------------------------------------------------------


@pytest.mark.parametrize("views", ["paper", "none"])
def test_scr_contrasts_an_image_with_another_view_of_it(views):
    strategy = set_up("SCR", views=views, batch_size=8)
    seen = []
    forward = strategy.template.forward

    def watched():
        seen.append(strategy.template.mbatch[0].clone())
        return forward()

    strategy.template.forward = watched
    (experience,) = stream([((0, 1), 16)], False, False)
    strategy.train(experience)
    assert [len(images) for images in seen] == [16, 16]
    for images in seen:
        first, second = images.chunk(2)
        apart = [not torch.equal(a, b) for a, b in zip(first, second, strict=True)]
        assert apart == [views == "paper"] * 8
        assert second.min() >= 0 and second.max() <= 1


def test_views_are_drawn_for_each_image():
    from clgym.avalanche.contrast import Views

    torch.manual_seed(0)
    images = torch.rand(1, 3, 12, 8).expand(400, 3, 12, 8)
    made = Views()(images)
    assert made.shape == images.shape and made.min() >= 0 and made.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in made}) > 350
    grey = (made[:, 0] == made[:, 1]).flatten(1).all(1) & (made[:, 1] == made[:, 2]).flatten(1).all(
        1
    )
    assert 0.13 < grey.float().mean() < 0.27  # one of five


def test_hue_turns_as_in_torchvision():
    from torchvision.transforms.functional import adjust_hue

    from clgym.avalanche.contrast import shift_hue

    torch.manual_seed(0)
    images = torch.rand(6, 3, 5, 5)
    images[0] = 0.5  # grey has no hue
    turns = torch.tensor([0.3, -0.1, 0.1, 0.05, -0.5, 0.0])
    wanted = [adjust_hue(image, float(turn)) for image, turn in zip(images, turns, strict=True)]
    assert torch.allclose(shift_hue(images, turns), torch.stack(wanted), atol=1e-5)
