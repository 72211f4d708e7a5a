"""Cache of the replies of learners about their strategies, so that no learner need be started.

Options and needs depend on code, on option values and, for a pretrained backbone, on weight files.
A cached reply is used only if all of these are the same as when it was given: the code of clgym and
of the plugins, every file that the plugins read, installed packages, Python, the environment that a
plugin sees, and size and time of the places where weights were searched. Replies that depend on a
device other than the CPU are not cached. Damaged replies are ignored.

A run that trains asks again in its own process and compares (`clgym.gym.confirmation`).
"""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clgym import registry
from clgym.codec import Unpackable, pack, unpack
from clgym.data.store import cache_dir
from clgym.engines.channel import Message
from clgym.files import dump_checked, file_sha256, load_checked, part_name, sha256
from clgym.gym.request import Request
from clgym.messages import ReadsDescribed
from clgym.registry.surroundings import surroundings
from clgym.text import Json

__all__ = ["KeptAnswers", "forget_answers"]

_MOST = 2000
"""Number of replies at which the older half is deleted; a reply takes a few kB."""


class KeptAnswers:
    """Cached replies to the questions about the strategy of one request."""

    def __init__(self, request: Request) -> None:
        """Note the strategy's present surroundings; code of an inline learner may be older."""
        self._request = request
        self._usable = request.engine == "process"
        self._before = self._around() if self._usable else []

    def find(self, question: Message) -> Message | None:
        """Reply, or error as data, that a learner would give now; None if it is not cached."""
        if (path := self._path(question)) is None:
            return None
        try:
            kept = load_checked(path.read_bytes())
            if kept["behind"] == _behind(kept["behind"]["files"], kept["behind"]["places"]):
                reply = unpack(json.loads(kept["reply"]), [])
                return reply if isinstance(reply, dict) else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass  # not cached, or damaged: the caller then starts a learner
        return None

    def keep(self, question: Message, reply: Message, reads: ReadsDescribed) -> None:
        """Cache a reply, unless the strategy's surroundings have changed since the beginning."""
        path, leaves = self._path(question), list[object]()
        if path is None or self._around() != self._before:
            return
        with contextlib.suppress(OSError, ValueError, Unpackable):  # the reply is just not cached
            behind = _behind(reads.files, dict.fromkeys(reads.places))
            if behind["files"] != reads.files:
                return
            # As text, since a default may be infinite, which checked JSON refuses.
            text = json.dumps(pack(reply, np.ndarray, leaves))
            if not leaves:
                _write(path, dump_checked({"behind": behind, "reply": text}))

    def _around(self) -> list[object]:
        request = self._request
        known = registry.entries("strategies", request.plugins).values()
        others = [entry for entry in known if entry.origin != "built-in" and entry.path.is_file()]
        files = [[e.name, str(e.path), e.source_hash, e.module, e.attribute] for e in others]
        return [*surroundings(), request.sandbox, files]

    def _path(self, question: Message) -> Path | None:
        """Path of the reply to a question; None for a question whose reply is not cached."""
        if not self._usable or question.get("device", "cpu") != "cpu":
            return None
        if question["do"] not in ("describe-options", "describe-needs"):
            return None
        try:
            key = json.dumps([self._before, question], sort_keys=True)
        except (TypeError, ValueError):  # values that cannot be sent are refused by name
            return None
        return _folder() / f"{sha256(key.encode())}.json"


def forget_answers() -> None:
    """Delete all cached replies, since one of them differed from a learner's."""
    shutil.rmtree(_folder(), ignore_errors=True)


def _folder() -> Path:
    return cache_dir() / "answers"


def _behind(files: Mapping[str, str], places: Mapping[str, object]) -> dict[str, Json]:
    """Present state of everything that a reply depends on besides its key.

    The working folder is included if something was read, since names may be relative to it.
    """
    found: dict[str, Json] = {}
    for name in files:
        try:
            found[name] = file_sha256(Path(name))
        except OSError:
            found[name] = None
    versions: dict[str, Json] = {name: _version(Path(name)) for name in places}
    folder = str(Path.cwd()) if files or places else None
    return {"files": found, "places": versions, "folder": folder}


def _version(path: Path) -> Json:
    """Size and time of a file or folder; None if it does not exist."""
    try:
        about = path.stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]


def _write(path: Path, data: bytes) -> None:
    """Write without flushing to the disk: after a crash a damaged reply is requested again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(part_name(path.name))
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    kept = list(path.parent.iterdir())
    if len(kept) > _MOST:
        for old in sorted(kept, key=_age, reverse=True)[: len(kept) - _MOST // 2]:
            old.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Negative time of the last change; a file that is gone counts as the oldest."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return float("inf")
