"""The methods with exemplars: memory, stages, heads, and runs that are killed inside a stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clgym.errors import BadConfig, Incompatible, StrategyFailed
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.registry import find, load_class
from clgym.results.record import LearningResult
from clgym.strategy import Batch, Experience, Memory, Strategy
from factories import copy_plugin, stream_info

NAMES = ("exemplar-replay", "icarl", "wa", "bic", "podnet")
SMALL = {
    "network": "two-convolutions",
    "first_epochs": 2,
    "epochs": 2,
    "memory_size": 40,
    "batch_size": 16,
    "augment": "none",
}


def made(name: str, **config: Any) -> Any:
    cls: Any = load_class(find("strategies", name), Strategy)
    own = {"podnet": {"proxies": 2, "finetune_epochs": 1}, "bic": {"split_ratio": 0.3}}
    strategy = cls(cls.Config(**{**SMALL, **own.get(name, {}), **config}))
    torch.manual_seed(0)
    strategy.setup(stream_info((3, 6, 6), memory=Memory(strategy.needs.memory)))
    return strategy


def experiences(sizes: tuple[int, ...] = (2, 2, 2), each: int = 24) -> list[Experience]:
    rng = np.random.default_rng(0)
    found, seen = [], 0
    for index, size in enumerate(sizes):
        classes = tuple(range(seen, seen + size))
        labels = torch.tensor(classes).repeat(each)
        centres = torch.tensor(rng.integers(0, 160, (seen + size, 3, 6, 6)))
        noise = torch.tensor(rng.integers(0, 96, (len(labels), 3, 6, 6)))
        pixels = (centres[labels] + noise).to(torch.uint8)
        seen += size
        found.append(
            Experience(index, pixels, labels, classes=classes, columns=seen, seed=0, scale=1 / 255)
        )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_exemplars_are_a_prefix_and_never_more_than_declared(name: str) -> None:
    strategy, before = made(name), {}
    for experience in experiences():
        strategy.train(experience)
        memory, share = strategy.info.memory, 40 // experience.columns
        rows = memory.rows_by("labels")
        assert list(rows) == list(range(experience.columns))
        assert [len(r) for r in rows.values()] == [share] * experience.columns
        kept = {label: memory["pixels"][r] for label, r in rows.items()}
        for label, pixels in before.items():
            assert torch.equal(kept[label], pixels[:share])
        originals = {row.numpy().tobytes() for row in experience.pixels}
        new = (kept[label] for label in experience.classes)
        assert all(row.numpy().tobytes() in originals for pixels in new for row in pixels)
        before = kept


def test_exemplars_do_not_depend_on_augmentation() -> None:
    """With a network that does not move, herding sees the images as they are."""
    chosen = []
    for augment in ("none", "crop-flip-brightness"):
        strategy = made("exemplar-replay", augment=augment, first_lr=1e-30, first_epochs=1)
        for module in strategy.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.0
        strategy.train(experiences()[0])
        chosen.append(strategy.info.memory["pixels"].clone())
    assert torch.equal(chosen[0], chosen[1])


def test_random_selection_is_another_one_and_is_drawn_by_name() -> None:
    picks = []
    for selection in ("random", "random", "herding"):
        strategy = made("exemplar-replay", selection=selection)
        strategy.train(experiences()[0])
        picks.append(strategy.info.memory["pixels"])
    assert torch.equal(picks[0], picks[1])
    assert not torch.equal(picks[0], picks[2])


@pytest.mark.parametrize("name", ["icarl", "wa", "bic", "podnet"])
def test_a_teacher_stands_still_while_the_student_learns(name: str) -> None:
    strategy = made(name)
    first, second, _ = experiences()
    strategy.train(first)
    assert not strategy.teacher.training
    before = {k: v.clone() for k, v in strategy.teacher.state_dict().items()}
    seen: list[bool] = []
    inner = strategy.objective

    def watched(batch: Any, output: Any) -> Any:
        now = strategy.teacher.state_dict()
        seen.append(all(torch.equal(now[k], v) for k, v in before.items()))
        return inner(batch, output)

    strategy.objective = watched
    strategy.train(second)
    assert seen and all(seen)


@pytest.mark.parametrize("name", NAMES)
def test_the_option_head_says_which_answer_counts(name: str) -> None:
    images = torch.rand(7, 3, 6, 6)
    for head in ("linear", "nme"):
        strategy = made(name, head=head)
        strategy.train(experiences()[0])
        with torch.no_grad():
            by_head = strategy.predict_by_head(Batch(images))
            assert torch.equal(strategy.predict(Batch(images)), by_head[head])
        assert set(by_head) == {"linear", "nme"}


def test_the_head_of_icarl_is_its_means() -> None:
    assert made("icarl").config.head == "nme"


def test_wa_without_alignment_is_icarl_s_training() -> None:
    found = []
    for name, own in (
        ("icarl", {"lambda_aux": 1.5, "head": "linear"}),
        ("wa", {"lambda_kd": 1.5, "align": False}),
        ("wa", {"lambda_kd": 1.5}),
    ):
        strategy = made(name, milestones=2, **own)
        for experience in experiences()[:2]:
            strategy.train(experience)
        found.append(strategy.network.head.weight.detach())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0][:2], found[2][:2])
    np.testing.assert_allclose(found[2][2:] / found[1][2:], strategy.gamma, rtol=1e-5)


def test_wa_cuts_off_negative_weights_where_asked() -> None:
    strategy = made("wa", clip_weights=True)
    strategy.train(experiences()[0])
    assert float(strategy.network.head.weight.detach().min()) >= 0


def test_wa_trains_in_steps_unless_the_schedule_is_honoured() -> None:
    rates = {
        honoured: made("wa", schedule="cosine", schedule_honoured=honoured).schedule("first", 20, 1)
        for honoured in (False, True)
    }
    assert [rates[False](epoch) for epoch in (0, 5, 6, 12, 17)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.001]
    )
    assert rates[True](10) == pytest.approx(0.5)


def test_bic_sets_equally_many_images_of_each_class_aside() -> None:
    strategy = made("bic", split_ratio=0.25)
    first, second, _ = experiences()
    strategy.train(first)
    strategy.begin(second)
    whole = strategy.with_exemplars(second)
    rows = strategy.validation_rows(whole)
    share = int(0.25 * 40 / 2)
    assert torch.bincount(whole.labels[rows]).tolist() == [share] * 4
    assert len(rows.unique()) == len(rows)
    stages = strategy.stages(second)
    parts = [stage.data() for stage in stages]
    assert [len(part) for part in parts] == [len(whole) - 4 * share, 4 * share]


def test_bic_holds_batch_normalisation_in_the_second_stage_where_asked() -> None:
    moved = []
    for mode in ("train", "eval"):
        strategy = made("bic", stage2_bn=mode)
        first, second, _ = experiences()
        strategy.train(first)
        before, inner = {}, strategy.correction_loss

        def watched(batch: Any, output: Any, s: Any = strategy, b: Any = before, i: Any = inner):
            b.setdefault("mean", s.network.backbone.bn1.running_mean.clone())
            return i(batch, output)

        strategy.correction_loss = watched
        strategy.train(second)
        after = strategy.network.backbone.bn1.running_mean
        moved.append(not torch.equal(before["mean"], after))
    assert moved == [True, False]


def test_bic_refuses_to_fit_on_nothing() -> None:
    strategy = made("bic", split_ratio=0.01)
    first, second, _ = experiences()
    strategy.train(first)
    with pytest.raises(BadConfig, match="at least one image of each class"):
        strategy.train(second)


def test_podnet_leaves_old_proxies_and_fine_tunes_on_balanced_images() -> None:
    strategy = made("podnet")
    first, second, _ = experiences()
    strategy.train(first)
    old = strategy.network.head.new_weight.detach().clone()
    sizes: list[list[int]] = []
    inner = strategy.balanced

    def watched(experience: Any) -> Any:
        data = inner(experience)
        sizes.append(torch.bincount(data.labels).tolist())
        return data

    strategy.balanced = watched
    strategy.train(second)
    assert torch.equal(strategy.network.head.old_weight, old)
    assert sizes == [[20] * 4]


def test_podnet_s_last_map_has_negative_entries() -> None:
    strategy = made("podnet", network="slim-resnet18")
    with torch.no_grad():
        maps = strategy.network.maps(torch.rand(2, 3, 6, 6))
    assert [float(m.min()) < 0 for m in maps] == [False, False, False, True]


def test_a_memory_that_has_no_room_for_every_class_is_refused() -> None:
    strategy = made("exemplar-replay", memory_size=3)
    first, second, _ = experiences()
    strategy.train(first)
    with pytest.raises(BadConfig, match="room for an exemplar of each of 4 classes"):
        strategy.train(second)


def test_an_experience_without_new_classes_is_refused() -> None:
    strategy = made("exemplar-replay")
    first = experiences()[0]
    strategy.train(first)
    again = Experience(
        1, first.pixels, first.labels, classes=(0, 1), columns=2, seed=0, scale=1 / 255
    )
    with pytest.raises(Incompatible, match="bring new classes"):
        strategy.train(again)


@pytest.mark.parametrize("rest", [1, 2])
def test_a_last_batch_of_one_image_is_kept_where_it_can_be_normalised(rest: int) -> None:
    strategy = made("exemplar-replay", batch_size=47)
    strategy.train(experiences()[0])  # 48 images of 6 x 6: maps of 3 x 3
    assert not strategy.merged


def test_no_draw_is_shared_between_stages() -> None:
    strategy = made("podnet", epochs=2, finetune_epochs=2)
    first, second, _ = experiences()
    strategy.train(first)
    epochs: list[tuple[int, int]] = []
    inner = strategy.objective

    def watched(batch: Any, output: Any) -> Any:
        epochs.append((strategy.stage_index, strategy.position.epoch))
        return inner(batch, output)

    strategy.objective = watched
    strategy.train(second)
    assert sorted(set(epochs)) == [(0, 0), (0, 1), (1, 2), (1, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage"), [("icarl", 0), ("bic", 0), ("bic", 1), ("podnet", 1)])
def test_a_run_that_is_killed_inside_a_stage_goes_on_to_the_same_bits(
    tmp_path: Path, name: str, stage: int
) -> None:
    flag = tmp_path / "flag"
    plugin = copy_plugin("dies_inside", tmp_path, NAME=name, STAGE=stage, FLAG=flag)
    own = {"podnet": {"proxies": 2, "finetune_epochs": 2}, "bic": {"split_ratio": 0.5}}
    more = {"batch_size": 24, "augment": "crop-flip-brightness"}

    def request(out: str) -> Request:
        return Request(
            "dies-inside",
            "split-digits",
            strategy_config={**SMALL, **own.get(name, {}), **more},
            out=tmp_path / out,
            plugins=(plugin,),
            threads=1,
            checkpoint_minutes=1e-6,
        )

    whole = run(request("whole")).result
    flag.touch()
    with pytest.raises(StrategyFailed, match="SIGKILL"):
        run(request("cut"))
    assert list((tmp_path / "cut").rglob("inside-1*")), "nothing was saved inside the experience"
    flag.unlink()
    again = run(request("cut"))
    assert again.cost.resumed == 1
    assert again.result == whole
    assert isinstance(whole, LearningResult) and whole.stored_after is not None
    assert max(whole.stored_after) <= SMALL["memory_size"]
