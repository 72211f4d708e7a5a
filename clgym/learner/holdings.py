"""Count what a strategy holds when it is saved, in the same way for all strategies.

The walk visits the strategy's attributes and everything that they refer to, then the variables of
its module. A network is one item; a tensor outside of networks belongs to its place, and the items
of a list or a dict are one place. Tensors from which predictions are computed
(`clgym.learner.dataflow`) count as parameters and buffers, all other state counts as stored.
`transient` attributes are not part of the state; optimizers are left out.
"""

# pyright: standard
# Not strict: what is walked over may be of any type.

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from clgym.data.source_data import SourceData
from clgym.learner.dataflow import Dataflow, address
from clgym.learner.reachable import roots_of, walk
from clgym.messages import Holdings
from clgym.models.backbones import Backbone
from clgym.strategy import Experience, Memory, Strategy, StreamInfo

__all__ = ["Bookkeeper", "HeldNumbers", "held_by"]

_KEY = re.compile(r"\[[^\]]*\]")
_MEMORY = "info.memory"
_BACKBONE = "backbone"
"""Name of the declared backbone among the places that predictions depend on."""
_KINDS = "biuf"
"""Kinds of NumPy types that are numbers."""
_LEFT_OUT = (StreamInfo, SourceData, Memory, Experience, torch.optim.Optimizer)
"""Classes of objects that are not counted: those from the gym, and optimizers."""
_PLAIN = (str, int, float, type(None))
N = TypeVar("N", bound=Tensor | np.ndarray)


@dataclass
class HeldNumbers:
    """Numbers in one place: those of a network, or of tensors and arrays in one attribute."""

    parameters: list[Tensor] = field(default_factory=list)
    """Parameters of a network."""
    buffers: list[Tensor] = field(default_factory=list)
    """Buffers of a network."""
    loose: list[Tensor | np.ndarray] = field(default_factory=list)
    """Tensors and arrays outside of networks."""
    is_state: bool = True
    """False for transient attributes and variables of the plugin's module: such numbers count if
    predictions depend on them, but not as stored."""

    @property
    def addresses(self) -> set[int]:
        """Addresses of the storages."""
        starts = {address(tensor) for tensor in (*self.parameters, *self.buffers)}
        return starts | {_address(value) for value in self.loose}

    @property
    def bytes(self) -> int:
        """Size of all numbers in bytes."""
        return sum(v.nbytes for v in (*self.parameters, *self.buffers, *self.loose))


def held_by(strategy: Strategy) -> dict[str, HeldNumbers]:
    """Numbers that a strategy refers to, by place; no number belongs to two places."""
    state = _state(strategy)
    backbones = _backbones(state)
    known = {_start(tensor) for backbone in backbones for tensor in _tensors_of(backbone)}
    seen = [value for _, value in state]
    others = list(walk(_no_state(strategy, state), [*_LEFT_OUT, *backbones, *seen]))
    # Networks first, since their tensors may have other places, too.
    held = _networks(state, known)
    kept = {_start(value) for _, value in state if isinstance(value, Tensor)}
    for place, one in _networks(others, known).items():
        is_state = bool(kept & {_start(tensor) for tensor in (*one.parameters, *one.buffers)})
        held[place] = replace(one, is_state=is_state)
    for found, is_state in ((state, True), (others, False)):
        for place, one in _loose(found, known).items():
            if place in held:
                held[place].loose += one.loose
            else:
                held[place] = replace(one, is_state=is_state)
    return held


def _networks(found: Sequence[tuple[str, object]], known: set[int]) -> dict[str, HeldNumbers]:
    """Networks among what a walk found, by place; without the tensors that are known."""
    modules = [(place, value) for place, value in found if isinstance(value, nn.Module)]
    inner = {id(part) for _, module in modules for part in list(module.modules())[1:]}
    return {
        place: HeldNumbers(
            list(_unknown(module.parameters(), known)), list(_unknown(module.buffers(), known))
        )
        for place, module in modules
        if id(module) not in inner
    }


def _loose(found: Sequence[tuple[str, object]], known: set[int]) -> dict[str, HeldNumbers]:
    """Tensors and arrays outside of networks among what a walk found, by place."""
    held: dict[str, HeldNumbers] = defaultdict(HeldNumbers)
    for place, value in found:
        if isinstance(value, Tensor) or (
            isinstance(value, np.ndarray) and value.dtype.kind in _KINDS
        ):
            held[_KEY.sub("[*]", place)].loose += _unknown([value], known)
    return dict(held)


def _state(strategy: Strategy) -> list[tuple[str, object]]:
    """The walk over all that is state, of strategies that are wrapped, too."""
    inner, known = [strategy], 0
    found: list[tuple[str, object]] = []
    while len(inner) > known:  # a wrapped strategy is known only after the walk has reached it
        known = len(inner)
        aside = [v for s in inner for v in _aside(s).values() if not isinstance(v, _PLAIN)]
        found = list(walk({"self": strategy}, [*_LEFT_OUT, *aside]))
        inner = [value for _, value in found if isinstance(value, Strategy)]
    return found


def _aside(strategy: Strategy) -> dict[str, object]:
    """Attributes that are not part of the state."""
    names = strategy.stateless()
    return {name: value for name, value in vars(strategy).items() if name in names}


def _no_state(strategy: Strategy, state: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Transient attributes of all strategies of a walk, and variables of the plugin's module."""
    roots = {place: root for place, root in roots_of(strategy).items() if root is not strategy}
    for place, value in state:
        if isinstance(value, Strategy):
            roots |= {f"{place}.{name}": item for name, item in _aside(value).items()}
    return roots


def _backbones(state: Sequence[tuple[str, object]]) -> list[Backbone]:
    """The declared backbone, which the gym counts by its name, of every strategy of a walk."""
    strategies = [value for _, value in state if isinstance(value, Strategy)]
    found = [vars(strategy).get("backbone") for strategy in strategies]
    return [backbone for backbone in found if isinstance(backbone, Backbone)]


def _tensors_of(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _unknown(values: Iterable[N], known: set[int]) -> Iterator[N]:
    """Yield values whose address is not known yet, and add it to the known ones."""
    for value in values:
        start = _start(value)
        if start not in known or start == 0:
            known.add(start)
            yield value


def _start(value: Tensor | np.ndarray) -> int:
    """Address of the first number; 0 if it is unknown."""
    if isinstance(value, np.ndarray):
        return int(value.ctypes.data)
    return value.data_ptr() if address(value) else 0


def _address(value: Tensor | np.ndarray) -> int:
    """Address of the storage."""
    return address(value) if isinstance(value, Tensor) else int(value.ctypes.data)


def _is_real(value: Tensor | np.ndarray) -> bool:
    """Whether the numbers are floats, since counts and masks are no parameters."""
    return value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"


def _size(value: Tensor | np.ndarray) -> int:
    return int(np.prod(value.shape))


class Bookkeeper:
    """Notes the places from which predictions are computed, and counts what a strategy holds."""

    def __init__(self) -> None:
        """Begin without an observed prediction."""
        self._serving: set[str] = set()
        self.flops = 0
        """Number of floating-point operations of the last observed prediction."""

    def observe(
        self,
        strategy: Strategy,
        ask: Callable[[], Tensor],
        *,
        learns: bool,
        features: Tensor | None = None,
    ) -> Tensor:
        """Let the strategy predict, and note the places that the prediction depends on.

        Args:
            strategy: The strategy that predicts.
            ask: Calls `Strategy.predict` or `Strategy.adapt`.
            learns: Whether the call also learns.
            features: Features of the images by the declared backbone, if the gym provided them.
        """
        flow = Dataflow(follow_updates=not learns)
        with flow:
            answer = ask()
        self.flops = flow.flops
        if isinstance(answer, Tensor):
            sources, held = flow.sources(answer), held_by(strategy)
            serving = {place for place, one in held.items() if one.addresses & sources}
            weights = {address(p) for b in _backbones(_state(strategy)) for p in b.parameters()}
            made = set[int]() if features is None else {address(features)}
            if not serving:  # for example a prediction that was not computed by torch
                serving = {*held, _BACKBONE}
            elif (weights | made) & sources:
                serving.add(_BACKBONE)
            self._serving |= serving
        return answer

    def forget(self) -> None:
        """Forget the noted places, since the strategy was trained."""
        self._serving = set()

    def count(self, strategy: Strategy, memory: Memory) -> Holdings:
        """Count what the strategy holds now; the gym adds the declared backbone's parameters."""
        held = held_by(strategy)
        trainable = total = buffers = 0
        stored = {_MEMORY: memory.size}
        for place, one in held.items():
            if place not in self._serving:
                stored[place] = one.bytes if one.is_state else 0
                continue
            sizes = [(p.numel(), p.requires_grad) for p in one.parameters]
            trainable += sum(size for size, learned in sizes if learned)
            total += sum(size for size, _ in sizes)
            total += sum(_size(v) for v in one.loose if _is_real(v))
            buffers += sum(b.numel() for b in one.buffers)
            buffers += sum(_size(v) for v in one.loose if not _is_real(v))
        stored = {place: size for place, size in stored.items() if size}
        return Holdings(
            trainable=trainable,
            total=total,
            buffers=buffers,
            stored=stored,
            backbone=_BACKBONE in self._serving,
        )

    def state_dict(self) -> list[str]:
        """The places that predictions depend on, for a run that continues in another process."""
        return sorted(self._serving)

    def load_state_dict(self, state: list[str]) -> None:
        """Restore `state_dict`."""
        self._serving = set(state)
