"""Data that the present phase must not read.

A tuning process learns before it loads anything which source, or which classes of a source, belong
to the evaluation. The rules are stored in the environment, so that every process it starts inherits
them, and no function removes them: one process cannot go from tuning to evaluation.

They prevent clgym itself from reading closed data. Code that changes the environment of its process
is restricted by the sandbox, which closes data root and cache, and finds files that hold zeros in
the place of closed images.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clgym.data.halves import Half, in_half
from clgym.errors import Withheld

if TYPE_CHECKING:
    from clgym.data.store import Split

__all__ = [
    "Rule",
    "check_classes",
    "check_content",
    "check_half",
    "check_name",
    "mask",
    "rules",
    "withhold",
]

_VARIABLE = "CLGYM_WITHHELD"


@dataclass(frozen=True)
class Rule:
    """A source that is closed, as a whole or in part."""

    source: str
    """Name of the closed source, as `load_source` accepts it."""
    fingerprint: str
    """Fingerprint of its content, so that another name for the same images does not open it."""
    classes: tuple[int, ...] | None = None
    """Class numbers that are closed; None closes the source, or the half below."""
    images: tuple[str, ...] = ()
    """SHA-256 of single images that are closed, since both sides of a pair hold them."""
    half: Half | None = None
    """Half of the test images that is closed; the training images, from which a classifier learns,
    stay open."""

    @property
    def whole(self) -> bool:
        """Whether the source is closed as a whole."""
        return self.classes is None and self.half is None


def withhold(added: Sequence[Rule]) -> None:
    """Close sources for this process and all its children, permanently."""
    known = [*rules(), *(rule for rule in added if rule not in rules())]
    os.environ[_VARIABLE] = json.dumps([asdict(rule) for rule in known])


def rules() -> list[Rule]:
    """Rules in force."""
    read = json.loads(os.environ.get(_VARIABLE, "[]"))
    return [
        Rule(
            r["source"],
            r["fingerprint"],
            None if r["classes"] is None else tuple(r["classes"]),
            tuple(r["images"]),
            r.get("half"),
        )
        for r in read
    ]


def _plain(name: str) -> str:
    """A named source is closed under each of its names, a folder at every size of its images."""
    base = name.partition("~")[0]
    if name.startswith("folder:"):
        place = re.sub(r"@\d+$", "", name.removeprefix("folder:"))
        return f"folder:{Path(place).expanduser().resolve()}"
    return name if ":" in name or base in ("folder", "npz") else base.replace("_", "-")


def check_name(name: str) -> None:
    """Refuse a closed source by its name, before any of its data are read.

    Raises:
        Withheld: it is closed.
    """
    if any(rule.whole and _plain(rule.source) == _plain(name) for rule in rules()):
        raise _refusal(name)


def check_content(name: str, fingerprint: str) -> None:
    """Refuse the content of a closed source under a different name.

    Raises:
        Withheld: it is closed.
    """
    if any(rule.whole and rule.fingerprint == fingerprint for rule in rules()):
        raise _refusal(name)


def check_classes(names: Sequence[str], classes: Sequence[int] | None) -> None:
    """Refuse a stream over closed classes of an open source.

    Args:
        names: Names of the stream's sources.
        classes: Class numbers it asks for; None asks for all.

    Raises:
        Withheld: some of them are closed.
    """
    for rule in rules():
        if rule.classes is None or not any(_plain(n) == _plain(rule.source) for n in names):
            continue
        if classes is None or set(classes) & set(rule.classes):
            raise _refusal(f"classes {_span(rule.classes)} of {rule.source}")


def check_half(names: Sequence[str], rows: str) -> None:
    """Refuse a stream over the closed half of an open source's test images.

    Args:
        names: Names of the stream's sources.
        rows: The half that it shows, or ``all``.

    Raises:
        Withheld: it shows what is closed.
    """
    for rule in rules():
        if rule.half is None or not any(_plain(n) == _plain(rule.source) for n in names):
            continue
        if rows in ("all", rule.half):
            raise _refusal(f"the {rule.half} half of the test images of {rule.source}")


def mask(fingerprint: str, split: "Split", tested: bool) -> np.ndarray:
    """Labels of a split of an open source, -1 for every closed row: int64 [N].

    Args:
        fingerprint: Fingerprint of the source.
        split: Its rows.
        tested: Whether they are the test split, of which halves are closed.
    """
    labels = split.labels
    for rule in rules():
        if rule.fingerprint != fingerprint:
            continue
        closed = np.isin(labels, rule.classes or ())
        if rule.half is not None and tested:
            closed |= in_half(split.hashes, rule.half)
        if rule.images:
            wanted = {bytes.fromhex(digest) for digest in rule.images}
            closed |= [bytes(h) in wanted for h in split.hashes]
        labels = np.where(closed, -1, labels)
    return labels


def _refusal(what: str) -> Withheld:
    return Withheld(
        expected="tuning to look at the tuning source only",
        found=f"a request for {what}, which belongs to the evaluation",
        fix="Evaluate with `clgym evaluate`, which opens it with a certificate",
    )


def _span(classes: Sequence[int]) -> str:
    whole = list(classes) == list(range(classes[0], classes[-1] + 1))
    return f"{classes[0]}-{classes[-1]}" if whole else ", ".join(map(str, classes))
