"""Progress from events alone, with a clock of our own."""

import dataclasses
import io

import pytest
from rich.console import Console

from clgym.cli._progress import Tracker, watch
from clgym.messages import (
    ChosenPlugin,
    ChosenScenario,
    ChosenSource,
    ExperienceOutline,
    RunOutline,
    RunPlanned,
    RunResumed,
    Scored,
    TrainProgress,
)
from clgym.text import duration

PLAN = RunPlanned(
    plan=RunOutline(
        strategy=ChosenPlugin("naive", {"lr": 0.1}),
        scenario=ChosenScenario("two", {}, "class-incremental", "0" * 64),
        sources=(ChosenSource("cifar10~0", ("a subset",)),),
        backbone=None,
        image_shape=(3, 32, 32),
        experiences=(ExperienceOutline(5, 100, 10), ExperienceOutline(5, 300, 10)),
        seed=0,
        device="cpu",
        threads=1,
        numerics="",
        out="runs/one",
    )
)


def train(experience: int, epoch: int, step: int, images: int) -> TrainProgress:
    return TrainProgress(
        experience=experience,
        epoch=epoch,
        epochs=2,
        step=step,
        steps=10,
        images=images,
        loss=0.5,
    )


SCORE = Scored(experience=0, experiences=2, row=[0.5, None], accuracy=0.5, images=8)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_shows_share_rate_and_remaining_time():
    clock = Clock()
    tracker = Tracker(clock)
    tracker.update(PLAN)
    assert (tracker.done, tracker.left) == (0.0, "")
    tracker.update(train(0, 0, 0, 0))
    clock.now = 10.0
    tracker.update(train(0, 1, 5, 150))
    # Three quarters of 100 of 400 rows; 150 images in 10 s; 13/3 times as long remains.
    assert tracker.done == pytest.approx(0.1875)
    assert tracker.status == "experience 1/2 · epoch 2/2 · loss 0.500 · 15 images/s"
    assert tracker.left == "43 s left"
    tracker.update(SCORE)
    assert tracker.done == 0.25


def test_a_resumed_run_is_not_timed_by_what_was_done_before():
    clock = Clock()
    tracker = Tracker(clock)
    tracker.update(PLAN)
    tracker.update(RunResumed(experience=1, images=8))
    assert tracker.done == 0.25
    tracker.update(train(1, 0, 0, 0))
    clock.now = 8.0
    tracker.update(train(1, 1, 0, 300))
    assert tracker.left == "8.0 s left"


def test_the_rate_is_never_negative_where_images_are_counted_anew():
    clock = Clock()
    tracker = Tracker(clock)
    tracker.update(PLAN)
    # Continued inside an experience, whose images so far are counted; the next begins at 0.
    for now, experience, images in ((0, 0, 5000), (1, 0, 5100), (2, 1, 10), (4, 1, 110), (5, 1, 0)):
        clock.now = float(now)
        tracker.update(train(experience, 0, 0, images))
        assert "-" not in tracker.status
        if now == 4:
            assert tracker.status.endswith("50 images/s")


def test_control_characters_in_names_are_not_sent_to_the_terminal():
    strategy = ChosenPlugin("a\x1b[2Jb", {"x": "\u202e" * 100_000})
    plan = dataclasses.replace(PLAN.plan, strategy=strategy)
    file = io.StringIO()
    with watch(Console(file=file, width=40)) as show:
        show(RunPlanned(plan=plan))
        show(Scored(experience=0, experiences=2, row=[], accuracy=0.5, images=8, name="fog\x07"))
    text = file.getvalue()
    assert "a\\u001b[2Jb" in text and "fog\\u0007" in text
    assert len(text) < 10_000 and text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.2, "42 s"), (59.7, "1:00 min"), (185, "3:05 min"),
     (7800, "2:10 h")],
)  # fmt: skip
def test_durations_are_shown_in_words(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_are_few_and_whole():
    file = io.StringIO()
    with watch(Console(file=file, width=40)) as show:
        show(PLAN)
        for step in range(10):
            show(train(0, 0, step, step))
        show(SCORE)
    lines = file.getvalue().splitlines()
    assert lines == [
        "naive on two (class-incremental), seed 0: 2 experiences, 400 training images",
        "options: lr=0.1",
        "note: cifar10~0: a subset",
        "experience 1/2: accuracy 50.00 % over what was seen",
    ]


def test_a_terminal_gets_a_bar_and_is_left_clean():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    with watch(console) as show:
        show(PLAN)
        show(train(0, 0, 5, 50))
        show(SCORE)
    text = file.getvalue()
    assert "experience 1/2: accuracy 50.00 % over what was seen" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back
