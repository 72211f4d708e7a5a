"""Learning rates that are set at every step and depend on the progress of the stream.

Gupta et al. 2023 (arXiv 2308.04014), Ibrahim et al. 2024 (arXiv 2403.08763) and Singh, Janson et
al. 2025 (arXiv 2503.02844) compare them for continual pre-training. A schedule is a value without
state: the rate of a step depends only on the step's place in the stream. So a continued run has the
same rates, and later experiences cannot change them.

With C(u; a, b) = b + (a - b) / 2 (1 + cos(pi u)), u within [0, 1], and `ceil` of shares as
decimals.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from clgym.errors import BadConfig

__all__ = [
    "ConstantAfterFirst",
    "Infinite",
    "LinearDecay",
    "Place",
    "Power",
    "RepeatedCosine",
    "Schedule",
    "share_of",
]


class Place(NamedTuple):
    """Place of a step in the stream."""

    experience: int
    """Index of the experience, from 0."""
    step: int
    """Index of the step within the experience, from 0."""
    steps: int
    """Number of steps of this experience."""
    before: int = 0
    """Number of steps of all experiences before it."""

    @property
    def clock(self) -> int:
        """Index of the step within the stream, from 0."""
        return self.before + self.step


class Schedule(Protocol):
    """The learning rate of every step of a stream."""

    def __call__(self, place: Place) -> float:
        """The rate of the step at ``place``."""
        ...


def share_of(share: float, steps: int) -> int:
    """``ceil(share * steps)`` in decimal arithmetic: 0.07 of 100 steps are 7, not 8."""
    return math.ceil(Decimal(str(share)) * steps)


def _cosine(u: float, start: float, end: float) -> float:
    u = min(max(u, 0.0), 1.0)
    return end + (start - end) / 2 * (1 + math.cos(math.pi * u))


def _rise(done: int, steps: int, start: float, end: float) -> float:
    """Linear warm-up, which reaches ``end`` at its last step."""
    return start + (end - start) * (done + 1) / steps


@dataclass(frozen=True)
class RepeatedCosine:
    """Warm up and decay along a cosine in every experience; with ``warmup=0`` without warm-up.

    With W = ceil(warmup S) and D = ceil(decay_end S) of an experience of S steps::

        t < W          start + (peak - start) (t + 1) / W
        W <= t < D     C((t - W) / (D - 1 - W); peak, floor)
        t >= D         floor

    A lone decay step is at the floor. Without one (S = W) the experience ends at its peak.
    """

    peak: float
    floor: float
    warmup: float = 0.01
    """Fraction of an experience's steps that are warm-up."""
    rewarm_from: Literal["min", "zero"] = "min"
    """Rate at which the warm-up of later experiences begins; the first one's begins at zero."""
    decay_end: float = 1.0
    """Fraction of an experience's steps after which the rate stays at the floor."""
    peak_scales: tuple[float, ...] = ()
    """Factor of the peak by experience; the last one holds for all that follow; () means 1."""

    def warmup_steps(self, steps: int) -> int:
        """Number W of warm-up steps in an experience of ``steps`` steps."""
        return share_of(self.warmup, steps)

    def decay_steps(self, steps: int) -> int:
        """Number D of the step at which an experience of ``steps`` steps reaches the floor."""
        return share_of(self.decay_end, steps)

    def __call__(self, place: Place) -> float:
        """The rate of the step at ``place``."""
        k, t, steps, _ = place
        scales = self.peak_scales or (1.0,)
        peak = self.peak * scales[min(k, len(scales) - 1)]
        warm, end = self.warmup_steps(steps), self.decay_steps(steps)
        if t < warm:
            start = 0.0 if k == 0 or self.rewarm_from == "zero" else self.floor
            return _rise(t, warm, start, peak)
        if t >= end or warm == end - 1:
            return self.floor
        return _cosine((t - warm) / max(1, end - 1 - warm), peak, self.floor)


@dataclass(frozen=True)
class ConstantAfterFirst:
    """The first experience as in `RepeatedCosine`; no decay afterwards.

    ``hold="min"``: all later steps at the floor. ``hold="max"``: the second experience warms up
    from the floor to the peak, where the rate stays.
    """

    peak: float
    floor: float
    warmup: float = 0.01
    hold: Literal["min", "max"] = "min"

    def warmup_steps(self, steps: int) -> int:
        """Number of warm-up steps in an experience of ``steps`` steps."""
        return share_of(self.warmup, steps)

    def __call__(self, place: Place) -> float:
        """The rate of the step at ``place``."""
        if place.experience == 0:
            return RepeatedCosine(self.peak, self.floor, self.warmup)(place)
        if self.hold == "min":
            return self.floor
        warm = self.warmup_steps(place.steps)
        if place.experience == 1 and place.step < warm:
            return _rise(place.step, warm, self.floor, self.peak)
        return self.peak


@dataclass(frozen=True)
class Infinite:
    """Warm-up, cool-down and a constant rate over the steps of the whole stream; annealed branches.

    ::

        warm-up    g < W          peak (g + 1) / W          (to ``constant`` where C = 0)
        cool-down  g < W + C      from peak to constant: `cooldown`
        constant   afterwards     constant
        annealing  j < A          start (floor / start)^((j + 1) / A)

    A branch starts A steps before an experience's end, at the rate that the main line has there;
    the branch is evaluated. Without a cool-down this is the schedule warm-up, stable, decay.
    """

    peak: float
    constant: float
    floor: float
    warmup_steps: int
    cooldown_steps: int
    annealing_steps: int
    cooldown: Literal["cosine", "invsqrt", "linear"] = "cosine"
    alpha: float = 10.0
    """Curvature of the inverse square root."""

    def __call__(self, place: Place) -> float:
        """The rate of the main line, which is never annealed."""
        g, warm, cool = place.clock, self.warmup_steps, self.cooldown_steps
        peak = self.peak if cool else self.constant
        if g < warm:
            return _rise(g, warm, 0.0, peak)
        if g < warm + cool:
            return peak + (self.constant - peak) * self._fallen((g - warm) / cool)
        return self.constant

    def _fallen(self, u: float) -> float:
        """Fraction of the way from peak to constant after a fraction ``u`` of the cool-down."""
        if self.cooldown == "cosine":
            return (1 - math.cos(math.pi * u)) / 2
        if self.cooldown == "invsqrt":
            return (1 / math.sqrt(1 + self.alpha * u) - 1) / (1 / math.sqrt(1 + self.alpha) - 1)
        return u

    def branch_start(self, steps: int) -> int:
        """Index of the step at which the branch of an experience of ``steps`` steps starts.

        Raises:
            BadConfig: The experience is shorter than its annealing.
        """
        if self.annealing_steps > steps:
            raise BadConfig(
                expected=f"at most {steps} annealing steps, the number of steps of an experience",
                found=str(self.annealing_steps),
                fix="Anneal over fewer steps, or train for more epochs",
            )
        return steps - self.annealing_steps

    def annealed(self, place: Place) -> float:
        """The rate of a step on the branch, which is the main line's before the branch begins."""
        first = self.branch_start(place.steps)
        if place.step < first:
            return self(place)
        start = self(place._replace(step=first))
        done = (place.step - first + 1) / self.annealing_steps
        # The last step is exactly the floor: a power would be rounded, and fails for a zero start.
        return self.floor if done == 1 else start * (self.floor / start) ** done


@dataclass(frozen=True)
class LinearDecay:
    """Warm up to the peak and fall linearly to the floor, in every experience."""

    peak: float
    floor: float
    warmup: float = 0.01

    def __call__(self, place: Place) -> float:
        """The rate of the step at ``place``; the last one of an experience is the floor."""
        warm = share_of(self.warmup, place.steps)
        if place.step < warm:
            return _rise(place.step, warm, 0.0 if place.experience == 0 else self.floor, self.peak)
        left = max(1, place.steps - 1 - warm)
        share = 1.0 if place.steps - warm == 1 else (place.step - warm) / left
        return self.peak + (self.floor - self.peak) * share


@dataclass(frozen=True)
class Power:
    """Warm up once, then fall by a power of the number of steps, without a fixed end.

    After Shen et al. 2024, "Power Scheduler" (arXiv 2408.13359), whose rate is a power of the
    samples seen: with W warm-up steps, ``max(floor, peak ((g + 1) / W)^-exponent)`` from step W on.
    """

    peak: float
    floor: float
    warmup_steps: int = 1
    exponent: float = 0.5

    def __call__(self, place: Place) -> float:
        """The rate of the step at ``place``."""
        g, warm = place.clock, max(1, self.warmup_steps)
        if g < warm:
            return _rise(g, warm, 0.0, self.peak)
        return max(self.floor, self.peak * ((g + 1) / warm) ** -self.exponent)
