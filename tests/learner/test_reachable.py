"""The walk finds arrays wherever an object can hold them."""

import array
import asyncio
import functools
import io
import mmap
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch

from clgym.learner.reachable import arrays_in

IMAGES = np.arange(12.0)


class Slotted:
    __slots__ = ("images", "unset")

    def __init__(self) -> None:
        self.images = IMAGES

    def show(self) -> np.ndarray:
        return self.images


def _generator() -> Iterator[int]:
    images = IMAGES
    yield 1
    yield len(images)


def _begun() -> Iterator[int]:
    made = _generator()
    next(made)
    return made


def _closure() -> Any:
    images = IMAGES
    return lambda: images


def _default(images: np.ndarray = IMAGES) -> np.ndarray:
    return images


def _annotated(*, images: np.ndarray = IMAGES) -> np.ndarray:
    return images


class Sack(list):
    """A container that can have attributes."""


def _with_attribute(value: Any, name: str = "images") -> Any:
    setattr(value, name, IMAGES)
    return value


def _failed() -> Exception:
    try:
        images = IMAGES
        raise ValueError(len(images))
    except ValueError as error:
        return error


@functools.cache
def _cached() -> np.ndarray:
    return IMAGES


def _filled_cache() -> Any:
    _cached()
    return _cached


async def _coroutine() -> int:
    images = IMAGES
    await asyncio.sleep(0)
    return len(images)


def _waiting() -> Any:
    made = _coroutine()
    made.send(None)
    weakref.finalize(made, lambda: None)
    return made


def _mapped() -> mmap.mmap:
    made = mmap.mmap(-1, IMAGES.nbytes)
    made.write(IMAGES.tobytes())
    return made


class _Objects(np.ndarray):
    """Arrays of this class can have attributes."""


class Closed:
    """An object that does not show what it refers to."""

    def __init__(self) -> None:
        object.__setattr__(self, "images", IMAGES)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return type(self)
        raise RuntimeError(name)


def _outside() -> Iterator[int]:
    yield from _generator()


def _begun_outside() -> Iterator[int]:
    made = _outside()
    next(made)
    return made


def _with_gradient() -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(len(IMAGES), dtype=torch.float64))
    made.grad = torch.from_numpy(IMAGES)
    return made


HOLDERS = {
    "a default by name": lambda: _annotated,
    "an attribute of a list": lambda: _with_attribute(Sack()),
    "an attribute of a tensor": lambda: _with_attribute(torch.zeros(2)),
    "an attribute that a mapped array has": lambda: _with_attribute(Sack(), "_mmap"),
    "an attribute of a number": lambda: _with_attribute(type("N", (float,), {})(2.0)),
    "an iterator": lambda: iter([1, IMAGES]),
    "a map": lambda: map(len, [IMAGES]),
    "a view of a dict": lambda: {1: IMAGES}.values(),
    "a proxy of a dict": lambda: types.MappingProxyType({1: IMAGES}),
    "a compiled method": lambda: [IMAGES].append,
    "a cell": lambda: types.CellType(IMAGES),
    "a cache": _filled_cache,
    "the frames of an exception": _failed,
    "a coroutine": _waiting,
    "an annotation": lambda: Annotated[int, IMAGES],
    "an array of objects": lambda: np.array([IMAGES, None], dtype=object),
    "an array of records": lambda: IMAGES.view([("pair", float, 2)]),
    "complex numbers": lambda: IMAGES.view(np.complex128),
    "an array of the standard library": lambda: array.array("d", IMAGES),
    "a view of memory": lambda: memoryview(IMAGES.tobytes()),
    "memory of the system": _mapped,
    "an attribute in a slot": Slotted,
    "the object of a method": lambda: Slotted().show,
    "a generator": _begun,
    "a closure": _closure,
    "a default": lambda: _default,
    "an argument that was fixed": lambda: functools.partial(len, IMAGES),
    "a key": lambda: {IMAGES.tobytes(): 1},
    "a list of numbers": lambda: {"a": [IMAGES.tolist()]},
    "bytes": lambda: bytearray(IMAGES.tobytes()),
    "the gradient of a parameter": lambda: _with_gradient(),
    "complex numbers of torch": lambda: torch.view_as_complex(torch.from_numpy(IMAGES).view(-1, 2)),
    "a file in memory": lambda: io.BytesIO(IMAGES.tobytes()),
    "the array behind a view": lambda: IMAGES[2:3],
    "a generator inside another one": lambda: _begun_outside(),
    "an object whose attributes cannot be read": lambda: Closed(),
    "an attribute of an array of objects": lambda: _with_attribute(_Objects(1, dtype=object)),
    "a sparse tensor": lambda: torch.from_numpy(IMAGES).to_sparse(),
    "compressed rows": lambda: torch.from_numpy(IMAGES.reshape(3, 4)).to_sparse_csr(),
    "a tensor's storage": lambda: torch.from_numpy(IMAGES.copy())[:1],
}


@pytest.mark.parametrize("place", HOLDERS)
def test_arrays_are_found(place: str) -> None:
    found = [array for _, array in arrays_in({"it": HOLDERS[place]()})]
    wanted = IMAGES.tobytes()
    assert any(a.tobytes() == wanted or a.astype(float).tobytes() == wanted for a in found)


def test_a_generator_that_has_ended_holds_nothing() -> None:
    made = _generator()
    assert list(made) == [1, 12]
    assert list(arrays_in({"it": made})) == []


def test_a_variable_of_a_closure_that_has_no_value_yet_is_passed_over() -> None:
    def cell() -> Any:
        def inside() -> int:
            return value

        kept = inside
        if kept is None:
            value = 1
        return kept

    assert list(arrays_in({"it": cell()})) == []


def test_memory_that_was_given_back_is_passed_over() -> None:
    mapped, view = _mapped(), memoryview(IMAGES.tobytes())
    mapped.close()
    view.release()
    held = {"a": mapped, "b": view, "c": torch.nn.LazyLinear(2), "d": IMAGES}
    assert [place for place, _ in arrays_in(held)] == ["d"]


def test_a_mapped_file_is_one_array_and_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    ((place, found),) = arrays_in({"it": [mapped, mapped[1:2]]})
    assert place.startswith("it[") and np.shares_memory(found, mapped)


def test_tensors_without_plain_storage_have_no_numbers_to_look_at() -> None:
    unreal = torch.zeros(3, device="meta")
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1), torch.ones(1), (10**6, 10**6))
    assert all(array.size == 0 for _, array in arrays_in({"a": unreal, "b": huge}))
