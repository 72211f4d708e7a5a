"""The base of all strategies: its config by type argument, the experience it learns, progress."""

import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from clgym.errors import BadPlugin
from clgym.strategy import Batch, Config, Experience, Strategy
from factories import stream_info


@dataclass(frozen=True)
class Options(Config):
    """Options."""

    rate: float = 0.5
    """A rate."""


@dataclass(frozen=True)
class Others(Config):
    """Other options."""


class Plain(Strategy[Options]):
    """Sees what it is told."""

    def train(self, experience: Experience) -> None:
        for batch in experience.batches(3, shuffle=False, epochs=1):
            self.drawn = torch.rand(1, generator=self.rng("x"))
            experience.loss = float(len(batch.labels))
        assert self.experience is experience

    def predict(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), 1)


def experience(rows: int = 7, **options: Any) -> Experience:
    pixels = torch.zeros(rows, 1, 2, 2, dtype=torch.uint8)
    labels = torch.zeros(rows, dtype=torch.long)
    given = {"classes": (0,), "columns": 1, "seed": 3, "scale": 1.0}
    return Experience(1, pixels, labels, **{**given, **options})


def test_the_brackets_set_the_config() -> None:
    assert Plain.Config is Options and Plain(Options()).config.rate == 0.5

    class Deeper(Plain):
        """Keeps it."""

    class Said(Strategy):
        Config = Others

    class Both(Strategy[Others]):
        Config = Others

    assert Deeper.Config is Options
    assert Said.Config is Both.Config is Others
    assert Strategy.Config is Config


def test_two_configs_are_refused() -> None:
    with pytest.raises(BadPlugin, match="Config = Others, and Options in the brackets"):

        class Torn(Strategy[Options]):
            Config = Others


@pytest.mark.parametrize("argument", [int, "Options"])
def test_what_is_no_class_of_options_is_refused(argument: Any) -> None:
    with pytest.raises(BadPlugin, match="class of options in the brackets of Odd's base"):

        class Odd(Strategy[argument]):
            """Of no options."""


def test_the_experience_is_there_while_it_is_learned() -> None:
    strategy, data = Plain(Options()), experience()
    strategy.setup(stream_info((1, 2, 2)))
    strategy.train(data)
    wanted = torch.rand(1, generator=data.generator("x", epoch=0, step=2))
    assert torch.equal(strategy.drawn, wanted)
    assert (data.epoch, data.step) == (None, None)
    with pytest.raises(BadPlugin, match="a call outside of train"):
        strategy.experience  # noqa: B018
    assert "_experience" not in strategy.state_dict()


def test_batches_report_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    data = experience(report=told.append)
    strategy = Plain(Options())
    strategy.setup(stream_info((1, 2, 2)))
    monkeypatch.setattr("clgym.data.experience._PAUSE", 0.0)
    strategy.train(data)
    assert [(e["epoch"], e["step"], e["steps"], e["images"]) for e in told] == [
        (0, 1, 3, 3),
        (0, 2, 3, 6),
        (0, 3, 3, 7),
    ]
    assert [e["loss"] for e in told] == [3.0, 3.0, 1.0] and told[0]["epochs"] == 1
    told.clear()
    list(data.batches(3, silent=True))
    assert told == []


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    told: list[Any] = []
    list(experience(200, report=told.append).batches(1))
    assert told[0]["step"] == 1 and told[-1]["step"] == 200
    assert len(told) < 20


class Learner:
    """What the functions that an experience gets from the learner lead to."""

    def tell(self, *_: object) -> None:
        """Take in progress."""


def test_an_experience_that_is_over_leads_back_to_nobody() -> None:
    """A strategy may keep it, or a cycle of references may: the learner knows rows and labels."""
    learner = Learner()
    gone = weakref.ref(learner)
    kept = experience(report=learner.tell, safe_point=learner.tell)
    parts = [kept.part(torch.arange(3)), kept.joined(kept.pixels, kept.labels)]
    kept.close()
    del learner
    assert gone() is None
    for over in (kept, *parts):
        over.report(step=1)
        over.safe_point()
