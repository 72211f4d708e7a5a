"""Learning-rate schedules over a whole stream, set at every step, around any SGD strategy.

Gupta et al. 2023, "Continual Pre-Training of Large Language Models: How to (re)warm your model?"
(arXiv 2308.04014); Ibrahim et al. 2024 (arXiv 2403.08763); Singh, Janson et al. 2025, "Beyond
Cosine Decay" (arXiv 2503.02844). The base's ``lr`` is the peak; rates and lengths are shares of it
and of an experience::

    rewarmed-cosine   in every experience warm-up to the peak, cosine to the floor
    cosine            the same without warm-up; linear: with a straight line in place of the cosine
    constant          the first experience as rewarmed-cosine; then the floor, or the peak (--hold)
    infinite          warm-up, cool-down and a constant rate over the whole stream, which never
                      restart; an annealed branch of an experience's last steps is what answers
    wsd               the same without a cool-down: warm-up, stable, decay
    power             warm-up once, then an inverse power of the steps taken

With ``--resume pre_anneal`` training goes on from before the branch, at the constant rate: the
branch's steps are taken twice, and the record counts them. With ``chain`` it goes on from the
branch.

A schedule that anneals less trains later experiences at a lower mean rate, which by itself forgets
less. Compare infinite with rewarmed-cosine at ``--later-peak`` such that both have one mean rate.
"""

import copy
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from clgym.avalanche import AvalancheStrategy, SGDStrategy, SupervisedPlugin
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.config import When
from clgym.errors import Incompatible
from clgym.models import continual_rates as rates
from clgym.strategy import Experience, Needs, State, Stateful, StreamInfo

SPACE = {"kind": ["rewarmed-cosine", "infinite", "wsd"], "floor": [0.0, 0.1]}

Kind = Literal["rewarmed-cosine", "cosine", "linear", "constant", "infinite", "wsd", "power"]
_WARMED = ("rewarmed-cosine", "linear", "constant", "infinite", "wsd", "power")


@dataclass(frozen=True)
class LRScheduleConfig(WrapperConfig):
    """Options of a schedule."""

    kind: Kind = "rewarmed-cosine"
    """How the learning rate runs."""
    warmup: Annotated[float, Ge(0), Le(1), When("kind", *_WARMED)] = 0.01
    """Warm-up, as a share of an experience's steps; of the first's where it never restarts."""
    floor: Annotated[float, Ge(0), Le(1)] = 0.1
    """Least rate, as a share of the peak."""
    later_peak: Annotated[float, Gt(0), When("kind", "rewarmed-cosine")] = 1.0
    """Peak after the first experience, as a share of the peak."""
    hold: Annotated[Literal["min", "max"], When("kind", "constant")] = "min"
    """What holds after the first experience, the floor or the peak."""
    constant: Annotated[float, Gt(0), Le(1), When("kind", "infinite")] = 0.5
    """The constant rate, as a share of the peak."""
    cooldown: Annotated[float, Ge(0), Le(1), When("kind", "infinite")] = 0.6
    """Length of the cool-down, as a share of the first experience's steps."""
    shape: Annotated[Literal["cosine", "invsqrt", "linear"], When("kind", "infinite")] = "cosine"
    """The cool-down's curve."""
    annealing: Annotated[float, Ge(0), Le(1), When("kind", "infinite", "wsd")] = 0.2
    """Length of the branch, as a share of an experience's steps."""
    resume: Annotated[Literal["pre_anneal", "chain"], When("kind", "infinite", "wsd")] = (
        "pre_anneal"
    )
    """Where the next experience begins."""
    exponent: Annotated[float, Ge(0), When("kind", "power")] = 0.5
    """How fast the rate falls."""


class LRSchedule(Wrapper[LRScheduleConfig]):
    """A base strategy whose learning rate is set at every step.

    Attributes:
        main: State of the base after the steps at the main line's rates, where a branch answers.
        branching: Whether the branch is being trained.
    """

    @property
    def branches(self) -> bool:
        """Whether a branch is trained beside the main line."""
        c = self.config
        return c.kind in ("infinite", "wsd") and c.resume == "pre_anneal" and c.annealing > 0

    @property
    def moves_on_elsewhere(self) -> bool:
        """True where a branch answers: training goes on from the main line."""
        return self.branches or super().moves_on_elsewhere

    @property
    def needs(self) -> Needs:
        """What the base needs; a branch takes its steps once more."""
        needs = self.base.needs
        return replace(needs, rereads=needs.rereads or self.branches)

    def make_companion(self) -> Any:
        """What sets the rates."""
        return _Rates(self)

    def setup(self, info: StreamInfo) -> None:
        """Set up the base.

        Raises:
            Incompatible: the base has a schedule of its own, or cannot go on inside an experience,
                as a branch does.
        """
        super().setup(info)
        learner = self.learner
        if self.branches and isinstance(learner, AvalancheStrategy):
            raise Incompatible(
                expected="a base that can go on inside an experience, where a branch begins",
                found=f"{type(learner).__name__}, which starts an experience from its beginning",
                fix="Give --resume chain or --annealing 0, or another --base",
            )
        if type(learner).rate is not SGDStrategy.rate or learner.config.lr_drops:
            raise Incompatible(
                expected="a base without a schedule of its own",
                found=f"{type(learner).__name__} with one",
                fix="Leave out --base.lr-drops, or give --base another strategy",
            )
        self.main: State | None = None
        self.branching = False

    def train(self, experience: Experience) -> None:
        """Train the main line; then the branch, from where it leaves the main line."""
        if not self.branching:
            if self.main is not None:
                self._load(self.main)
                self.main = None
            self.base.train(experience)
            if not self.branches:
                return
            fork, self.companion.fork = self.companion.fork, None
            self.main, self.branching = self._saved(), True
            self._load(fork)
        self.base.train(experience)
        self.branching = False

    def _saved(self) -> State:
        """All that training depends on, in tensors of its own."""
        outer = [c.state_dict() for c in self.companions if hasattr(c, "state_dict")]
        parts = {
            "base": self.base.state_dict(),
            "companion": self.companion.state_dict(),
            "outer": outer,
            "memory": self.info.memory.state_dict(),
        }
        return copy.deepcopy(parts)

    def _load(self, state: State) -> None:
        state = copy.deepcopy(state)
        self.info.memory.load_state_dict(state["memory"], self.info.device)
        self.base.load_state_dict(state["base"])
        self.companion.load_state_dict(state["companion"])
        outer = [c for c in self.companions if hasattr(c, "state_dict")]
        for companion, held in zip(outer, state["outer"], strict=True):
            companion.load_state_dict(held)


class _Rates(Stateful, SupervisedPlugin):
    """Sets the rate before every step.

    Attributes:
        before: Steps of the experiences before this one.
        first: Steps of the first experience.
        steps: Steps of the present one; 0 before it is known.
        fork: State of the strategy where the branch leaves the main line.
    """

    transient = ("_owner",)

    def __init__(self, owner: LRSchedule) -> None:
        super().__init__()
        self._owner = owner
        self.before = self.first = self.steps = 0
        self.index = -1
        self.fork: State | None = None

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        """Count the steps so far; not when an experience is continued."""
        index = strategy.feed.experience.index
        if index != self.index:
            self.before, self.steps, self.index = self.before + self.steps, 0, index

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        """Know the step's place in the stream, and set its rate."""
        owner, feed = self._owner, strategy.feed
        here = feed.position
        if not self.steps:
            self.steps = feed.epochs * len(feed)
            self.first = self.first or self.steps
        step = here.epoch * len(feed) + here.step
        place = rates.Place(self.index, step, self.steps, self.before)
        schedule = self.schedule()
        annealed = isinstance(schedule, rates.Infinite)
        if annealed and owner.branches and not owner.branching:
            if step == schedule.branch_start(self.steps):
                self.fork = owner._saved()
            annealed = False
        rate = schedule.annealed(place) if annealed else schedule(place)
        for group in strategy.optimizer.param_groups:
            group["lr"] = rate

    def schedule(self) -> Any:
        """The schedule of the config, in rates and steps."""
        c, peak = self._owner.config, self._owner.learner.config.lr
        floor, warm = c.floor * peak, rates.share_of(c.warmup, self.first)
        if c.kind in ("infinite", "wsd"):
            cooldown = rates.share_of(c.cooldown, self.first) if c.kind == "infinite" else 0
            constant = c.constant * peak if c.kind == "infinite" else peak
            annealing = rates.share_of(c.annealing, self.steps)
            return rates.Infinite(peak, constant, floor, warm, cooldown, annealing, c.shape)
        return {
            "rewarmed-cosine": lambda: rates.RepeatedCosine(
                peak, floor, c.warmup, peak_scales=(1.0, c.later_peak)
            ),
            "cosine": lambda: rates.RepeatedCosine(peak, floor, 0.0),
            "linear": lambda: rates.LinearDecay(peak, floor, c.warmup),
            "constant": lambda: rates.ConstantAfterFirst(peak, floor, c.warmup, c.hold),
            "power": lambda: rates.Power(peak, floor, warm, c.exponent),
        }[c.kind]()
