"""Answers in the middle of an experience, for the accuracy at any time of single-pass streams."""

import time
from collections.abc import Callable
from typing import TypedDict, TypeVar, cast

import numpy as np
import torch

from clgym.codec import pack, unpack
from clgym.messages import AnytimeAnswers, AnytimeTest, Predict
from clgym.strategy import Strategy

__all__ = ["ProbeState", "Prober", "cloned"]

S = TypeVar("S")


class ProbeState(TypedDict):
    """What a run that is continued inside an experience must know."""

    seen: int
    """Training images of the experience so far."""
    images: list[int]
    predicted: list[torch.Tensor]
    """Answers, int32, of as many moments."""


class Prober:
    """Answers the rows of an `AnytimeTest` when training has come so far.

    In the middle of training a copy answers, so that nothing of the learner changes. Where a
    strategy offers no safe points there are answers at the end only.

    Attributes:
        seconds: What the answers took.
    """

    def __init__(
        self,
        probe: AnytimeTest | None,
        answer: Callable[[Predict, Strategy], np.ndarray],
        copied: Callable[[], Strategy],
    ) -> None:
        """Answer nothing yet.

        Args:
            probe: Moments and rows; None for none at all.
            answer: Logits of a question by a strategy.
            copied: Makes a strategy in the present state of the learner.
        """
        self._probe, self._answer, self._copied = probe, answer, copied
        self._images: list[int] = []
        self._predicted: list[np.ndarray] = []
        self._before = 0
        self.seconds = 0.0

    def visit(self, images: int) -> None:
        """Answer if a moment has come; called at safe points, ``images`` into this session."""
        if self._probe is None:
            return
        seen, last = images + self._before, self._images[-1] if self._images else 0
        if seen < self._probe.at[-1] and any(last < moment <= seen for moment in self._probe.at):
            self._note(seen, self._copied())

    def finish(self, strategy: Strategy) -> AnytimeAnswers | None:
        """Answer at the end of the experience; all answers."""
        if self._probe is None:
            return None
        self._note(self._probe.at[-1], strategy)
        return AnytimeAnswers(images=np.array(self._images), predicted=np.stack(self._predicted))

    def _note(self, images: int, strategy: Strategy) -> None:
        assert self._probe is not None
        started = time.perf_counter()
        logits = self._answer(self._probe.question, strategy)
        self._images.append(images)
        self._predicted.append(logits.argmax(1).astype(np.int32))
        self.seconds += time.perf_counter() - started

    def state_dict(self, images: int) -> ProbeState:
        """What a run that is continued here must know."""
        return {
            "seen": images + self._before,
            "images": self._images,
            "predicted": [torch.as_tensor(p) for p in self._predicted],
        }

    def load_state_dict(self, state: ProbeState) -> None:
        """Go on from `state_dict`."""
        self._before, self._images = state["seen"], list(state["images"])
        self._predicted = [p.numpy() for p in state["predicted"]]


def cloned(state: S) -> S:
    """A copy of nested dicts, lists and tuples that shares no tensor."""
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    return cast(S, unpack(tree, [leaf.detach().clone() for leaf in leaves]))
