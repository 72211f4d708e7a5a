"""The state of an object, read from its attributes, and how to restore it.

The state of a strategy is its attributes, so its author need not list them. Attributes can be:

* plain values (None, bool, int, float, str), tensors, NumPy arrays, torch generators, and dicts,
  lists, tuples, sets and deques of them;
* modules, optimizers and other objects with ``state_dict`` and ``load_state_dict``, such as
  `Stateful`. These are made again by `setup`, or by ``remake(name)`` of their owner, and restored
  in place;
* a tensor of such a module, or a module inside another one, under a second name: it is stored as
  a reference, so that it is the same object after restoring, too;
* functions, classes, devices and dtypes, which do not change and are not part of the state.

Anything else is refused by name, since a run that continues from an incomplete state would give
different numbers.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from clgym.errors import BadOutput, BadPlugin

__all__ = ["State", "Stateful", "modules_in", "names_left_out", "restore", "state_of"]

State = dict[str, Any]
"""State of a strategy: nested dicts, lists and tuples of tensors and plain values. ``Any``: each
strategy may use its own keys; whether all values can be saved is checked when they are saved
(`clgym.codec.pack`)."""

_PLAIN = (bool, int, float, str, type(None))
_KINDS = {
    *("reference", "part", "grown", "generator", "array", "value"),
    *("dict", "set", "frozenset", "list", "tuple", "deque"),
}
_CONSTANT = (
    *(FunctionType, MethodType, BuiltinFunctionType, ModuleType, type),
    *(torch.device, torch.dtype, torch.Size),
)


@runtime_checkable
class _HasState(Protocol):
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


@runtime_checkable
class _HasStructure(Protocol):
    """A module whose submodules depend on the classes seen, such as a head that grows."""

    def structure(self) -> Any: ...
    def restructure(self, structure: Any, /) -> None: ...


class Stateful:
    """An object whose attributes are its state: an estimate, a bank, a plugin of Avalanche.

    A strategy that has one as an attribute saves and restores it with its own state.
    """

    transient: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that are not part of the state."""

    def state_dict(self) -> "State":
        """Return the values of the attributes, see `state_of`.

        Raises:
            BadPlugin: An attribute cannot be saved; the message names it.
        """
        return state_of(self, names_left_out(self))

    def load_state_dict(self, state: "State") -> None:
        """Restore `state_dict`; tensors stay on their device."""
        restore(self, state, None, names_left_out(self))


def names_left_out(owner: object) -> set[str]:
    """Names in ``transient`` of an object's class and of all its bases."""
    named = (vars(cls).get("transient", ()) for cls in type(owner).__mro__)
    return {name for names in named for name in names}


def state_of(owner: object, skip: Iterable[str] = ()) -> State:
    """The state of an object: nested dicts of tensors and plain values, by attribute.

    Args:
        owner: Any object.
        skip: Attributes that are not part of the state.

    Raises:
        BadPlugin: An attribute cannot be restored; the message names it.
    """
    attributes = _attributes(owner, skip)
    places = _places(attributes)
    packed = {name: _packed(value, name, places) for name, value in attributes.items()}
    return {name: value for name, value in packed.items() if value is not None}


def restore(
    owner: object, state: Mapping[str, Any], device: torch.device | None, skip: Iterable[str] = ()
) -> None:
    """Set the attributes of an object to a state that `state_of` returned.

    Args:
        owner: An object of the same class, set up in the same way.
        state: The state, whose tensors may be on any device.
        device: Device for the tensors; None leaves them where they are.
        skip: Attributes that are not part of the state, as for `state_of`.

    Raises:
        BadPlugin: The state contains a module or an optimizer that the object does not have.
        BadOutput: The state was saved by a version of clgym with another format, or with other
            options.
    """
    left_out = set(skip)
    for late in (False, True):  # references last, since the objects that they refer to must exist
        for name, packed in state.items():
            if name not in left_out and _has_reference(packed) is late:
                owned = vars(owner)  # read again, since restoring an attribute may have made others
                old = owned.get(name)
                if old is None and isinstance(packed, dict) and _is_part(packed):
                    old = getattr(owner, "remake", lambda _: None)(name)
                owned[name] = _restored(packed, old, name, owned, device)


def _is_part(packed: Mapping[str, Any]) -> bool:
    return packed.keys() <= {"part", "grown"}


def modules_in(owner: object, skip: Iterable[str] = ()) -> dict[str, nn.Module]:
    """The outermost modules among an object's attributes, each once, by place."""
    attributes = _attributes(owner, skip).items()
    everything = [found for name, value in attributes for found in _walk(name, value)]
    found = [(place, value) for place, value in everything if isinstance(value, nn.Module)]
    inner = {id(part) for _, module in found for part in list(module.modules())[1:]}
    outermost = {id(m): (place, m) for place, m in reversed(found) if id(m) not in inner}
    return dict(outermost.values())


def _attributes(owner: object, skip: Iterable[str]) -> dict[str, object]:
    left_out = set(skip)
    return {name: value for name, value in vars(owner).items() if name not in left_out}


def _walk(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value and, if it is a container, everything in it, each with its place."""
    yield place, value
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, (list, tuple, deque)):
        inner = enumerate(value)
    for key, item in inner:
        yield from _walk(f"{place}[{key!r}]", item)


def _places(attributes: Mapping[str, Any]) -> dict[int, list[Any]]:
    """Places of modules and tensors inside the modules among the attributes, by id.

    Only modules that are attributes themselves own others, since their names are stable.
    """
    places: dict[int, list[Any]] = {}
    for name, owner in attributes.items():
        if isinstance(owner, nn.Module):
            for inner, part in owner.named_modules():
                places.setdefault(id(part), [name, inner])
            for inner, tensor in [*owner.named_parameters(), *owner.named_buffers()]:
                places.setdefault(id(tensor), [name, inner])
    return places


def _packed(value: Any, place: str, places: Mapping[int, list[Any]]) -> Any:
    """Encode a value as ``{kind: content}``; None if it is not part of the state."""
    known = places.get(id(value), [place, ""])
    if known != [place, ""]:
        return {"reference": known}
    if isinstance(value, _CONSTANT):
        return None
    if isinstance(value, (*_PLAIN, Tensor)):
        return {"value": value}
    if isinstance(value, np.generic):
        return {"value": value.item()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, torch.Generator):
        return {"generator": value.get_state()}
    if isinstance(value, _HasState):
        grown = _structures(value)
        state = value.state_dict()
        return {"grown": {"structure": grown, "state": state}} if grown else {"part": state}
    if isinstance(value, Mapping):
        items = [[k, _packed(v, f"{place}[{k!r}]", places)] for k, v in value.items()]
        if all(isinstance(key, _PLAIN) for key, _ in items):
            return {"dict": [pair for pair in items if pair[1] is not None]}
    for kind in (list, tuple, deque):
        if type(value) is kind:
            items = [_packed(v, f"{place}[{i}]", places) for i, v in enumerate(value)]
            return {kind.__name__: items}
    if isinstance(value, (set, frozenset)) and all(isinstance(v, _PLAIN) for v in value):
        return {type(value).__name__: sorted(value, key=lambda v: (type(v).__name__, v))}
    raise BadPlugin(
        expected=f"an attribute {place!r} that can be saved: tensors, plain values, modules, "
        "optimizers or objects with state_dict and load_state_dict",
        found=f"a {type(value).__name__}",
        fix="Give it these two methods, or name it in the class's `transient` if it is not part of "
        "the state",
    )


def _structures(value: object) -> dict[str, object]:
    """Results of ``structure()`` of the modules within a module, by name."""
    parts = value.named_modules() if isinstance(value, nn.Module) else ()
    return {name: part.structure() for name, part in parts if isinstance(part, _HasStructure)}


def _has_reference(packed: Any) -> bool:
    if not isinstance(packed, dict):
        return isinstance(packed, list) and any(map(_has_reference, packed))
    return "reference" in packed or any(
        _has_reference(packed[kind])
        for kind in ("dict", "list", "tuple", "deque")
        if kind in packed
    )


def _restored(
    packed: Any, old: Any, place: str, owned: Mapping[str, Any], device: torch.device | None
) -> Any:
    """Undo `_packed`; ``old`` is the present value."""
    if packed is None:
        return old
    if not isinstance(packed, dict) or len(packed) != 1 or not packed.keys() <= _KINDS:
        raise BadOutput(
            expected=f"a state with an entry for {place!r} as this version of clgym saves it",
            found=f"a {type(packed).__name__} of another form",
            fix="Repeat the run with this version",
        )
    ((kind, content),) = packed.items()
    if kind == "reference":
        return _referenced(owned, *content)
    if kind in ("part", "grown"):
        if not isinstance(old, _HasState):
            raise BadPlugin(
                expected=f"setup() to make {place!r}, whose values are in the saved state",
                found=f"a {type(old).__name__}",
                fix="Make it in setup(), return it from remake(), or name it in the class's "
                "`transient`",
            )
        if kind == "grown":
            module: Any = old
            for name, structure in content["structure"].items():
                module.get_submodule(name).restructure(structure)
            content = content["state"]
        try:
            old.load_state_dict(_moved(content, device))
        except RuntimeError as error:  # torch raises these for a module with other sizes
            raise BadOutput(
                expected=f"a state that fits {place!r} as setup() makes it",
                found=str(error).strip().splitlines()[-1].strip(),
                fix="Repeat the run, or use the options and the version that it was saved with",
            ) from error
        return old
    if kind == "generator":
        generator = old if isinstance(old, torch.Generator) else torch.Generator(device or "cpu")
        return generator.set_state(content.cpu())
    if kind == "array":
        return content.cpu().numpy()
    if kind == "value":
        return _tensor(content, old, device) if isinstance(content, Tensor) else content
    if kind == "dict":
        before = old if isinstance(old, Mapping) else {}
        return {
            key: _restored(item, before.get(key), f"{place}[{key!r}]", owned, device)
            for key, item in content
        }
    if kind in ("set", "frozenset"):
        return {"set": set, "frozenset": frozenset}[kind](content)
    before = list(old) if isinstance(old, (list, tuple, deque)) else []
    before += [None] * (len(content) - len(before))
    items = [
        _restored(item, before[i], f"{place}[{i}]", owned, device) for i, item in enumerate(content)
    ]
    if kind == "deque":
        return deque(items, old.maxlen if isinstance(old, deque) else None)
    return {"list": list, "tuple": tuple}[kind](items)


def _tensor(content: Tensor, old: Any, device: torch.device | None) -> Tensor:
    """Restore a tensor; a parameter is set in place, since an optimizer may refer to it."""
    if not (isinstance(old, Tensor) and old.is_leaf and old.requires_grad):
        return content if device is None else content.to(device)
    if old.shape == content.shape:
        with torch.no_grad():
            return old.copy_(content)
    return content.to(old).requires_grad_()


def _referenced(owned: Mapping[str, Any], name: str, inner: str) -> Any:
    module = owned[name]
    if not inner:
        return module
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    return tensors[inner] if inner in tensors else module.get_submodule(inner)


def _moved(state: Any, device: torch.device | None) -> Any:
    """Move the tensors in nested values to a device."""
    if device is None:
        return state
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, Mapping):
        return {key: _moved(value, device) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_moved(value, device) for value in state)
    return state
