"""A graph of Python objects as tensors and plain values, and back. No pickle.

Avalanche's strategies keep their state in arbitrary objects. `capture` visits them and writes down
their contents; `rebuild` makes them again. A class is written as its name and looked up in
Avalanche, torch's networks and optimizers, and clgym only; of functions a few are known. Classes
and functions of the strategy's own file are looked up there, since it is running already. Nothing
else is imported, and nothing is called, so a state file from elsewhere can do no harm beyond a
wrong state.
"""

import functools
import importlib
import logging
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["capture", "rebuild"]

_CLASSES = ("avalanche.", "torch.nn.", "torch.optim.", "torchvision.models.", "clgym.")
"""Modules from which the classes of objects may come."""

_FUNCTIONS = (
    "avalanche.benchmarks.utils.transform_groups:identity",
    "avalanche.training.plugins.evaluation:_init_metrics_list_lambda",
    "torch.utils.data._utils.collate:default_collate",
    "torch:zeros",
)
"""Functions to which Avalanche's objects refer."""

Node = dict[str, Any]
"""Objects, or the written form of one, by name. ``Any``, since Avalanche's objects are arbitrary:
`_Writer` refuses what it cannot write, and `_Reader` what may not be looked up."""

_PLAIN = (bool, int, float, str)
_BUILTINS = {c.__name__: c for c in (dict, list, set, tuple, int, float, bool, str, object)}


Modules = Mapping[str, types.ModuleType]
"""Modules that are loaded already, whose classes and functions may be named, by a short name."""


def capture(
    root: Mapping[str, Any], outside: Node, own: Modules = types.MappingProxyType({})
) -> Node:
    """Write down all objects that can be reached from ``root``.

    Args:
        root: Attributes by name.
        outside: Objects, by name, that are there already when the state is rebuilt.
        own: Modules whose classes and functions may be named besides the known ones.

    Raises:
        TypeError: An object cannot be written down; the message says where it is.
    """
    writer = _Writer(outside, own)
    top = {name: writer.write(value, name) for name, value in root.items()}
    return {"top": top, "nodes": writer.nodes, "tensors": writer.tensors}


def rebuild(
    state: Node, outside: Node, device: torch.device, own: Modules = types.MappingProxyType({})
) -> Node:
    """Make the objects again that `capture` wrote down.

    Raises:
        ValueError: The state names something that may not be looked up.
    """
    reader = _Reader(state, outside, device, own)
    return {name: reader.read(value) for name, value in state["top"].items()}


class _Writer:
    def __init__(self, outside: Node, own: Modules) -> None:
        self._own = own
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self._known: dict[int, int] = {}
        self._held: list[Any] = []  # so that no id is used twice
        self._outside = {id(value): name for name, value in outside.items()}

    def write(self, value: Any, way: str) -> Any:
        """The value itself where it is plain, else a reference to a node."""
        if value is None or type(value) in _PLAIN:
            return value
        if id(value) not in self._known:
            number = len(self.nodes)
            self._known[id(value)] = number
            self._held.append(value)
            node: Node = {}
            self.nodes.append(node)
            node.update(self._node(value, way))
        return {"ref": self._known[id(value)]}

    def _node(self, value: Any, way: str) -> Node:
        if id(value) in self._outside:
            return {"is": "outside", "name": self._outside[id(value)]}
        if isinstance(value, Tensor):
            return self._tensor(value, type(value) is nn.Parameter)
        if isinstance(value, np.ndarray):
            return {**self._tensor(torch.from_numpy(value.copy()), False), "is": "array"}
        if isinstance(value, np.generic):
            return {"is": "scalar", "type": value.dtype.str, "value": value.item()}
        if isinstance(value, logging.Logger):
            return {"is": "logger", "name": value.name}
        if isinstance(value, (torch.device, torch.dtype)):
            return {"is": type(value).__name__, "name": str(value).removeprefix("torch.")}
        for kind in (torch.Size, list, tuple, set, frozenset, deque):
            if type(value) is kind:
                items = [self.write(v, f"{way}[{i}]") for i, v in enumerate(value)]
                return {"is": kind.__name__, "items": items}
        if type(value) is range:
            return {"is": "range", "items": [value.start, value.stop, value.step]}
        if type(value) in (dict, OrderedDict, defaultdict):
            return self._mapping(value, way)
        return self._callable(value, way) or self._object(value, way)

    def _tensor(self, value: Tensor, parameter: bool) -> Node:
        self.tensors.append(value.detach())
        place = len(self.tensors) - 1
        return {"is": "tensor", "at": place, "parameter": parameter, "grad": value.requires_grad}

    def _mapping(self, value: dict, way: str) -> Node:
        pairs = [[self.write(k, way), self.write(v, f"{way}[{k!r:.40}]")] for k, v in value.items()]
        node = {"is": type(value).__name__, "items": pairs}
        if isinstance(value, defaultdict):
            node["factory"] = self.write(value.default_factory, f"{way}.default_factory")
        return node

    def _callable(self, value: Any, way: str) -> Node | None:
        if isinstance(value, types.MethodType):
            owner = self.write(value.__self__, f"{way}.__self__")
            return {"is": "method", "owner": owner, "name": value.__name__}
        if type(value) is functools.partial:
            parts = (value.func, value.args, value.keywords)
            return {"is": "partial", "parts": [self.write(p, way) for p in parts]}
        named = (type, types.FunctionType, types.BuiltinFunctionType)
        if not isinstance(value, named):
            return None
        for name in (*_FUNCTIONS, *_BUILTINS):
            if _named(name) is value:
                return {"is": "named", "name": name}
        if own := self._own_name(value):
            return {"is": "named", "name": own}
        name = f"{value.__module__}:{value.__qualname__}"
        raise TypeError(f"{way} is {name}, which is not among the functions that may be written")

    def _object(self, value: Any, way: str) -> Node:
        cls = type(value)
        name = self._own_name(cls) or f"{cls.__module__}:{cls.__qualname__}"
        try:
            known = _class(name, self._own) is cls
        except (ValueError, AttributeError, ImportError):
            known = False
        if not known or not hasattr(value, "__dict__"):
            raise TypeError(f"{way} is a {name}, which cannot be written down")
        fields = {k: self.write(v, f"{way}.{k}") for k, v in vars(value).items()}
        return {"is": "object", "class": name, "fields": fields}

    def _own_name(self, value: Any) -> str:
        """``short name:qualified name`` of a class or function of one of the own modules."""
        for short, module in self._own.items():
            if value.__module__ == module.__name__ and "<" not in value.__qualname__:
                return f"{short}:{value.__qualname__}"
        return ""


class _Reader:
    def __init__(self, state: dict, outside: Node, device: torch.device, own: Modules) -> None:
        self._own = own
        self._nodes, self._tensors = state["nodes"], state["tensors"]
        self._outside, self._device = outside, device
        self._made: dict[int, Any] = {}

    def read(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        number = value["ref"]
        if number not in self._made:
            node = self._nodes[number]
            shell, fill = self._begin(node)
            self._made[number] = shell  # before filling it: objects may lead back to themselves
            fill()
        return self._made[number]

    def _begin(self, node: Node) -> tuple[Any, Callable[[], None]]:
        kind = node["is"]
        if kind == "object":
            cls: Any = _class(node["class"], self._own)
            made = cls.__new__(cls)
            return made, lambda: self._fields(made, node["fields"])
        if kind in ("dict", "OrderedDict", "defaultdict"):
            made = self._mapping(node)
            pairs = node["items"]
            return made, lambda: made.update((self.read(k), self.read(v)) for k, v in pairs)
        if kind == "list":
            made = []
            return made, lambda: made.extend(map(self.read, node["items"]))
        return self._whole(kind, node), lambda: None

    def _fields(self, made: Any, fields: Node) -> None:
        vars(made).update((name, self.read(value)) for name, value in fields.items())

    def _mapping(self, node: Node) -> dict:
        if node["is"] == "defaultdict":
            return defaultdict(self.read(node["factory"]))
        return OrderedDict() if node["is"] == "OrderedDict" else {}

    def _whole(self, kind: str, node: Node) -> Any:
        """An object that cannot refer to itself."""
        if kind == "outside":
            return self._outside[node["name"]]
        if kind == "logger":
            return logging.getLogger(node["name"])
        if kind == "named":
            return _named(node["name"], self._own)
        if kind == "method":
            return types.MethodType(
                getattr(type(self.read(node["owner"])), node["name"]), self.read(node["owner"])
            )
        if kind == "partial":
            function, args, keywords = map(self.read, node["parts"])
            return functools.partial(function, *args, **keywords)
        if kind in ("tensor", "array"):
            return self._tensor(node)
        if kind == "scalar":
            return np.dtype(node["type"]).type(node["value"])
        if kind == "range":
            return range(*node["items"])
        if kind == "device":
            return torch.device(node["name"])
        if kind == "dtype":
            return getattr(torch, node["name"])
        kinds = {"Size": torch.Size, "tuple": tuple, "set": set, "deque": deque}
        return kinds.get(kind, frozenset)(self.read(item) for item in node["items"])

    def _tensor(self, node: Node) -> Any:
        tensor = self._tensors[node["at"]].clone()
        if node["is"] == "array":
            return tensor.numpy()
        tensor = tensor.to(self._device)
        if node["parameter"]:
            return nn.Parameter(tensor, requires_grad=node["grad"])
        return tensor.requires_grad_(node["grad"])


def _class(name: str, own: Modules) -> type:
    """The class that goes by ``module:qualified name``.

    Raises:
        ValueError: The class is outside the modules that are trusted.
    """
    module, _, qualified = name.partition(":")
    if (module not in own and not module.startswith(_CLASSES)) or "<" in qualified:
        raise ValueError(f"{name} may not be looked up")
    home = own[module] if module in own else importlib.import_module(module)
    value = _within(home, qualified)
    if not isinstance(value, type) or value.__module__ != home.__name__:
        raise ValueError(f"{name} is no class of that module")
    return value


def _named(name: str, own: Modules = types.MappingProxyType({})) -> Any:
    """One of the known functions, a type of the language, or a function of an own module.

    Raises:
        ValueError: The function is not known.
    """
    if name in _BUILTINS:
        return _BUILTINS[name]
    module, _, qualified = name.partition(":")
    if module in own:
        value = _within(own[module], qualified)
        if value.__module__ == own[module].__name__:
            return value
    if name not in _FUNCTIONS:
        raise ValueError(f"{name} may not be looked up")
    return _within(importlib.import_module(module), qualified)


def _within(value: Any, qualified: str) -> Any:
    for part in qualified.split("."):
        value = getattr(value, part)
    return value
