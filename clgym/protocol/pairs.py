"""Pairs: two sources under one scenario, one for tuning and one for evaluation."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, model_serializer

from clgym._moved import report_renamed
from clgym.data.halves import HALVES, Half
from clgym.errors import BadPlan, UnknownName, near
from clgym.files import canonical_json, sha256
from clgym.text import printable

__all__ = [
    "PAIRS",
    "ScenarioPair",
    "Side",
    "check_name",
    "find_pair",
    "name_problems",
    "named_by_sides",
    "numbers",
]

report_renamed(__name__)


class Side(BaseModel):
    """A source, or some of its classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    """Name of the source, as `clgym.data.sources.load_source` accepts it."""
    classes: tuple[int, ...] | None = None
    """Class numbers; None means all."""
    extra: dict[str, JsonValue] = {}
    """Further options of the scenario for this side only, such as its corruptions or rows."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, object]:
        """Leave out an empty ``extra``, so that the hash of a side does not change."""
        values = handler(self)
        return values if self.extra else {k: v for k, v in values.items() if k != "extra"}

    def options(self) -> dict[str, object]:
        """Options of the scenario on this side."""
        chosen = {} if self.classes is None else {"classes": list(self.classes)}
        return {"source": self.source, **chosen, **self.extra}

    @property
    def words(self) -> str:
        """Readable description of the side: ``cifar100, classes 0 to 49``."""
        parts = [self.source]
        if self.classes is not None:
            first, last = self.classes[0], self.classes[-1]
            whole = self.classes == tuple(range(first, last + 1))
            parts.append(f"classes {f'{first} to {last}' if whole else _listed(self.classes)}")
        parts += [f"{name.replace('_', ' ')} {_listed(v)}" for name, v in self.extra.items()]
        return ", ".join(parts)

    @property
    def half(self) -> Half | None:
        """Half of the test images that the side uses; None means all."""
        rows = self.extra.get("rows")
        return next((half for half in HALVES if half == rows), None)


def _listed(value: Any) -> str:
    listed = isinstance(value, (list, tuple))
    return " ".join(map(str, cast(Sequence[object], value))) if listed else str(value)


class ScenarioPair(BaseModel):
    """Both sides, and the scenario that both use."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    scenario: str
    config: dict[str, JsonValue]
    """Options of the scenario, without those of the sides."""
    tuning: Side
    evaluation: Side
    seeds: int = 3
    """Default number of seeds of a study."""
    trials: int = 8

    @property
    def halves(self) -> bool:
        """Whether both sides are parts of one source."""
        return self.tuning.source == self.evaluation.source

    @property
    def digest(self) -> str:
        """SHA-256 of the pair's definition."""
        return sha256(canonical_json(self.model_dump(include=_IDENTITY)))


_IDENTITY = {"scenario", "config", "tuning", "evaluation"}
_NAME = re.compile(r"[A-Za-z0-9._~-]+")


def numbers(text: str) -> tuple[int, ...]:
    """Parse ``0-4,7`` to numbers.

    Raises:
        BadPlan: The text has another form.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        found = []
    if not found:
        raise BadPlan(
            expected="class numbers such as 0-49 or 0-4,7",
            found=repr(text),
            fix="Write SOURCE or SOURCE:CLASSES",
        )
    return tuple(sorted(set(found)))


def side(text: str) -> Side:
    """Parse a side from its written form.

    Args:
        text: ``cifar100``, ``cifar100[0-49]`` for some of its classes, or
            ``digits[corruptions=fog,snow;rows=tuning]`` for options of the scenario.

    Raises:
        BadPlan: The text in brackets is neither.
    """
    name, bracket, rest = text.partition("[")
    inside = rest.rstrip("]")
    if not bracket or "=" not in inside:
        return Side(source=name, classes=numbers(inside) if bracket else None)
    pairs = (part.partition("=") for part in inside.split(";"))
    extra = {key.strip().replace("-", "_"): _value(value.strip()) for key, _, value in pairs}
    if (rows := extra.get("rows", "all")) not in ("all", *HALVES):
        raise BadPlan(
            expected=f"rows of a side: all, {', '.join(HALVES)}",
            found=repr(rows),
            fix="Write SOURCE[rows=tuning;corruptions=extra]",
        )
    return Side(source=name, extra=extra)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


# The paper's table of scenario pairs, and small pairs that run on embedded data. A preset that
# changes gets a new name, since studies are audited by name and digest (`name_problems`).
# Columns: tuning side, evaluation side, scenario options, seeds, trials.
_CNN = {"network": "resnet18"}
_VIT = {"network": "vit-b16", "memory_size": 1}
_Row = tuple[str, str, Mapping[str, JsonValue], int, int]
_ROWS: dict[str, _Row] = {
    "c50-t10": (
        "cifar100[0-49]",
        "cifar100[50-99]",
        {"first": 5, "increments": [5], "memory_size": 1000, **_CNN},
        5,
        30,
    ),
    "c50-t6": (
        "cifar100[0-49]",
        "cifar100[50-99]",
        {"first": 25, "increments": [5], "memory_size": 1000, **_CNN},
        5,
        30,
    ),
    "i50-t10": (
        "imagenet100[0-49]",
        "imagenet100[50-99]",
        {"first": 5, "increments": [5], "memory_size": 1000, **_CNN},
        5,
        30,
    ),
    "i50-t6": (
        "imagenet100[0-49]",
        "imagenet100[50-99]",
        {"first": 25, "increments": [5], "memory_size": 1000, **_CNN},
        5,
        30,
    ),
    # The paper's second set of 100 classes was not published, so the user must name one.
    "i100-t10": (
        "imagenet100",
        "",
        {"first": 10, "increments": [10], "memory_size": 2000, **_CNN},
        5,
        30,
    ),
    "i100-t6": (
        "imagenet100",
        "",
        {"first": 50, "increments": [10], "memory_size": 2000, **_CNN},
        5,
        30,
    ),
    "cub-t10": ("cub200[0-99]", "cub200[100-199]", {"increments": [10], **_VIT}, 5, 30),
    "cub-t20": ("cub200[0-99]", "cub200[100-199]", {"increments": [5], **_VIT}, 5, 30),
    "r-t10": ("imagenet-r[0-99]", "imagenet-r[100-199]", {"increments": [10], **_VIT}, 5, 30),
    "r-t20": ("imagenet-r[0-99]", "imagenet-r[100-199]", {"increments": [5], **_VIT}, 5, 30),
    "r-a-t10": ("imagenet-r[0-99]", "imagenet-a[100-199]", {"increments": [10], **_VIT}, 5, 30),
    "r-a-t20": ("imagenet-r[0-99]", "imagenet-a[100-199]", {"increments": [5], **_VIT}, 5, 30),
    "digits-t2": (
        "digits[0-4]",
        "digits[5-9]",
        {"first": 3, "increments": [2], "memory_size": 50},
        3,
        8,
    ),
    # Small pairs for two cores, not from the paper. Their numbers compare with nothing else. v2 has
    # a network that learns, and images and exemplars for the nine methods without pretraining.
    "lite-c50": (
        "cifar100[0-49]",
        "cifar100[50-99]",
        {"increments": [10], "memory_size": 500, "network": "mlp", "per_class": [300, 50]},
        3,
        10,
    ),
    "lite-c50-v2": (
        "cifar100[0-49]",
        "cifar100[50-99]",
        {
            "increments": [10],
            "memory_size": 250,
            "network": "slim-resnet18",
            "per_class": [50, 50],
        },
        2,
        4,
    ),
    # For the methods on a pretrained network, whose own options name the network.
    "lite-c20": (
        "cifar100[0-19]",
        "cifar100[20-39]",
        {"increments": [5], "memory_size": 1, "per_class": [30, 20]},
        2,
        4,
    ),
}

# Test-time adaptation: tuned on the four corruptions for validation and one half of the test
# images, evaluated on the other corruptions and the other half.
_TUNED, _HELD_OUT = "corruptions=extra;rows=tuning", "corruptions=no-frost;rows=evaluation"
_RESNET20 = {"model": "cifar10-resnet20"}
# The images that these pairs had before there was a v2, and their order: one for all corruptions.
_V1 = {"hsv": "scaled", "arrival": "published"}
_SHIFTED: dict[str, _Row] = {
    "digits-c-v1": (
        f"digits[{_TUNED}]",
        f"digits[{_HELD_OUT}]",
        {"batch_size": 64, "arrival": "published"},
        3,
        8,
    ),
    "digits-c-v2": (f"digits[{_TUNED}]", f"digits[{_HELD_OUT}]", {"batch_size": 64}, 3, 8),
    "cifar10-c-v1": (f"cifar10[{_TUNED}]", f"cifar10[{_HELD_OUT}]", {**_RESNET20, **_V1}, 5, 20),
    "cifar10-c-v2": (f"cifar10[{_TUNED}]", f"cifar10[{_HELD_OUT}]", _RESNET20, 5, 20),
    "cifar100-c-v1": (f"cifar100[{_TUNED}]", f"cifar100[{_HELD_OUT}]", _V1, 5, 20),
    "cifar100-c-v2": (f"cifar100[{_TUNED}]", f"cifar100[{_HELD_OUT}]", {}, 5, 20),
    "imagenet100-c-v1": (
        f"imagenet100[{_TUNED}]",
        f"imagenet100[{_HELD_OUT}]",
        {"batch_size": 64, **_V1},
        5,
        20,
    ),
    "imagenet100-c-v2": (
        f"imagenet100[{_TUNED}]",
        f"imagenet100[{_HELD_OUT}]",
        {"batch_size": 64},
        5,
        20,
    ),
    # Another source: all images of the evaluation side, whose numbers compare with other tables.
    "cifar100-cifar10-c-v1": (
        "cifar100[corruptions=extra]",
        "cifar10[corruptions=no-frost;model=cifar10-resnet20]",
        _V1,
        5,
        20,
    ),
    "cifar100-cifar10-c-v2": (
        "cifar100[corruptions=extra]",
        "cifar10[corruptions=no-frost;model=cifar10-resnet20]",
        {},
        5,
        20,
    ),
}


def _presets(scenario: str, rows: Mapping[str, _Row]) -> dict[str, ScenarioPair]:
    return {
        name: ScenarioPair(
            name=name,
            scenario=scenario,
            config=dict(config),
            tuning=side(tuning),
            evaluation=side(evaluation),
            seeds=seeds,
            trials=trials,
        )
        for name, (tuning, evaluation, config, seeds, trials) in rows.items()
    }


PAIRS = _presets("class-incremental", _ROWS) | _presets("corruptions", _SHIFTED)


def find_pair(
    name: str,
    tuning: str | None = None,
    evaluation: str | None = None,
    scenario: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> ScenarioPair:
    """Find a preset, change its sides or options, or build a user's pair.

    Args:
        name: Name of a preset, or any other name with both sides and a scenario.
        tuning: Tuning side in the form that `side` accepts, instead of the preset's.
        evaluation: Evaluation side in the same form.
        scenario: Scenario instead of the preset's.
        config: Options that override the preset's.

    Raises:
        UnknownName: There is no such preset, and sides and scenario are not all given.
        BadPlan: The evaluation side is missing, or both sides are the same.
    """
    preset = PAIRS.get(name.replace("_", "-"))
    if preset is None and not (tuning and evaluation and scenario):
        raise UnknownName(
            expected="a pair",
            found=repr(name),
            fix=f"{near(name, PAIRS)}Or give --tuning, --evaluation and --scenario",
        )
    changed: dict[str, object] = {"config": {**(preset.config if preset else {}), **(config or {})}}
    changed |= {"tuning": side(tuning)} if tuning else {}
    changed |= {"evaluation": side(evaluation)} if evaluation else {}
    changed |= {"scenario": scenario} if scenario else {}
    base = preset.model_dump() if preset else {"name": name}
    pair = ScenarioPair.model_validate({**base, **changed})
    if preset is not None:
        pair = named_by_sides(pair)
    check_name(pair)
    if not pair.evaluation.source or _overlapping(pair):
        raise BadPlan(
            expected=f"two different sides for {pair.name}",
            found=f"{pair.tuning.source} and {pair.evaluation.source or 'none'}",
            fix="Give --evaluation SOURCE, or a part: SOURCE[CLASSES], or SOURCE[rows=evaluation]",
        )
    return pair


def _overlapping(pair: ScenarioPair) -> bool:
    """Whether the sides are the same source and share class numbers, or halves of its images."""
    halves = {pair.tuning.half, pair.evaluation.half}
    if halves == set(HALVES):
        return False
    one, other = pair.tuning.classes, pair.evaluation.classes
    return pair.halves and (one is None or other is None or bool(set(one) & set(other)))


def named_by_sides(pair: ScenarioPair) -> ScenarioPair:
    """The pair under its own name: if it differs from the preset of its name, with its digest."""
    preset = PAIRS.get(pair.name.partition("~")[0].replace("_", "-").lower())
    if preset is None:
        return pair
    own = "" if pair.digest == preset.digest else f"~{pair.digest[:8]}"
    return pair.model_copy(update={"name": preset.name + own})


def name_problems(pair: ScenarioPair) -> Iterator[str]:
    """What is wrong if a pair is named after a preset and differs from it."""
    if pair.name != (own := named_by_sides(pair).name):
        yield f"the pair {printable(repr(pair.name))} has the sides and options of {own}"


def check_name(pair: ScenarioPair) -> None:
    """Refuse a pair that has the name of another one, or none that can be shown anywhere.

    Raises:
        BadPlan: The name is a preset's, or holds other characters than letters, digits and -_.~.
    """
    plain = "a name of letters, digits, '-', '_', '.' and '~' for the pair"
    wrong = [] if _NAME.fullmatch(pair.name) else [(plain, printable(repr(pair.name)))]
    wrong += [("a pair under its own name", problem) for problem in name_problems(pair)]
    for expected, found in wrong:
        raise BadPlan(expected=expected, found=found, fix="Give the pair another name")
