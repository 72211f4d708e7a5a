"""Past samples are out of reach, but for those in the counted memory."""

import gc

import pytest
import torch
from avalanche.training.storage_policy import ClassBalancedBuffer

from clgym.avalanche import retention
from clgym.avalanche.adapter import adapt
from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.rows import Rows
from clgym.data.memory import Memory
from clgym.errors import OutOfReach


def buffer_over(experience, size):
    view = ExperienceView(experience)
    buffer = ClassBalancedBuffer(size)
    buffer.update_from_dataset(view.dataset)
    return view, buffer


def test_rows_that_a_buffer_names_are_copied_and_counted(experiences):
    (experience,) = experiences(steps=1)
    pixels, labels = experience.pixels.clone(), experience.labels.clone()
    view, buffer = buffer_over(experience, 10)
    before = [buffer.buffer[i][0].clone() for i in range(10)]
    memory = Memory(10)
    retention.end({"b": buffer}, view.rows, [], memory, experience)
    experience.close()
    assert len(memory) == 10
    after = [buffer.buffer[i] for i in range(10)]
    assert all(torch.equal(x, sample[0]) for x, sample in zip(before, after, strict=True))
    for place in range(10):
        same = (pixels == memory["pixels"][place]).all((1, 2, 3)).nonzero().flatten().tolist()
        assert labels[same[0]] == memory["labels"][place]


def test_all_other_rows_are_out_of_reach(experiences):
    (experience,) = experiences(steps=1)
    view, buffer = buffer_over(experience, 10)
    dataset = view.dataset
    retention.end({"b": buffer}, view.rows, [], Memory(10), experience)
    experience.close()
    readable = 0
    for row in range(len(dataset)):
        try:
            dataset[row]
            readable += 1
        except OutOfReach:
            pass
    assert readable == 10


def test_more_than_declared_is_refused(experiences):
    (experience,) = experiences(steps=1)
    view, buffer = buffer_over(experience, 11)
    with pytest.raises(OutOfReach, match="11 in the strategy's buffers"):
        retention.end({"b": buffer}, view.rows, [], Memory(10), experience)


def test_a_dataset_that_is_kept_whole_counts_whole(experiences):
    (experience,) = experiences(steps=1)
    view = ExperienceView(experience)
    held = retention.rows_held({"deep": [{"er": (view.dataset.subset([3, 5, 3]),)}]})
    assert [rows for _, rows in held.values()] == [{3, 5}]


def test_no_strategy_keeps_the_images_of_the_past(experiences, learner):
    """Whatever EWC, LwF, ... hold, no tensor of the size of an experience's images is left."""
    strategies = []
    for name in ("EWC", "LwF", "MAS", "Replay", "GDumb", "DER"):
        cls = adapt(name)
        options = {"memory_size": 12} if "memory_size" in cls.Config.__dataclass_fields__ else {}
        strategy = learner(cls, **options)
        for experience in experiences(steps=2):
            strategy.train(experience)
            experience.close()
        assert len(strategy.info.memory) <= 12
        strategies.append(strategy)
    gc.collect()
    for rows in (o for o in gc.get_objects() if type(o) is Rows):
        assert rows._floats is None and rows._experience is None
