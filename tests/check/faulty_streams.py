"""Scenarios that each break one rule; by the name of the check that must catch it."""

from dataclasses import replace
from typing import Any

import numpy as np

from clgym.scenario import Step, Stream
from clgym.scenarios.class_incremental import (  # pyright: ignore[reportMissingImports]
    ClassIncremental,
)


class _Changed(ClassIncremental):
    """Class-incremental, with its steps changed by `change`."""

    CHECK_CONFIG = {"increments": [2]}

    def stream(self, sources: Any, order_seed: int | None) -> Stream:
        stream = super().stream(sources, order_seed)
        return replace(stream, steps=tuple(self.change(list(stream.steps))))

    def change(self, steps: list[Step]) -> list[Step]:
        return steps


class CutsNothing(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        raise ValueError("no idea")


class NamesARowTwice(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        first = steps[0]
        return [replace(first, train=np.append(first.train, first.train[0])), *steps[1:]]


class TestsTwice(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        shared = np.append(steps[1].test, steps[0].test[0])
        return [steps[0], replace(steps[1], test=shared), *steps[2:]]


class BringsRowsBack(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        shared = np.append(steps[1].train, steps[0].train[0])
        return [steps[0], replace(steps[1], train=shared), *steps[2:]]


class NumbersByClass(_Changed):
    """Columns of the second experience come first."""

    def change(self, steps: list[Step]) -> list[Step]:
        return [steps[1], steps[0], *steps[2:]]


class ForgetsAClass(_Changed):
    """Its last experience holds rows of a class that it does not name."""

    def change(self, steps: list[Step]) -> list[Step]:
        return [*steps[:-1], replace(steps[-1], classes=steps[-1].classes[:1])]


class TrainsOnHeldOutRows(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        return [replace(s, train=np.sort(np.append(s.train, s.valid))) for s in steps]


class DrawsGlobally(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        return [replace(s, train=np.random.permutation(s.train)) for s in steps]


class IgnoresTheOrderSeed(_Changed):
    def stream(self, sources: Any, order_seed: int | None) -> Stream:
        return super().stream(sources, 0)


class FailsOnOneImage(_Changed):
    def change(self, steps: list[Step]) -> list[Step]:
        if any(len(s.train) < 40 for s in steps):
            raise IndexError("too few")
        return steps


CAUGHT = {
    CutsNothing: "cuts",
    NamesARowTwice: "rows-in-range",
    TestsTwice: "test-rows-once",
    BringsRowsBack: "train-rows-once",
    NumbersByClass: "columns-in-order",
    ForgetsAClass: "classes-match-labels",
    TrainsOnHeldOutRows: "held-out-rows",
    DrawsGlobally: "same-plan",
    IgnoresTheOrderSeed: "other-order",
    FailsOnOneImage: "one-image-class",
}
