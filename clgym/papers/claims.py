"""Claims as data: a paper's rows, the runs that each needs, the numbers that it states.

A file ``leaderboards/papers/NAME.toml`` holds one paper::

    title = "..."                      # with authors, venue, year, link, strategies
    [runs.simplecil]                   # a run by name; `like` takes over another's fields
    strategy = "simplecil"
    scenario = "b0-inc10-cifar100"
    config = { backbone = "deit_tiny_patch16_224@{data}/weights/deit.safetensors" }
    [studies.replay]                   # a study with its evaluation
    strategy = "replay"
    pair = "lite-c50"
    [[rows]]
    name = "order"
    scale = "lite"                     # two processor cores; `full` is the paper's own size
    about = "..."
    hours = 0.2
      [[rows.claims]]                  # a number: measured within the tolerance?
      of = "simplecil"
      measure = "last_accuracy"
      value = 81.26                    # percent, as all values, gaps and tolerances
      tolerance = 0.1
      where = "main table"
      known = "log"
      [[rows.claims]]                  # an order: is one above the other?
      better = "adapter"
      worse = "simplecil"
      measure = "last_accuracy"
      where = "main table"
      known = "verified"

``{data}`` in an option stands for the data root. A file holds no values of clgym's own: ``known``
says where each value comes from, and marks those that the paper does not state.
"""

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clgym._checkout import PACKAGE, ROOT
from clgym._moved import report_renamed
from clgym.errors import BadRecord, UnknownName, near
from clgym.papers.measures import MEASURES

__all__ = [
    "Claim",
    "Known",
    "Paper",
    "ClaimRow",
    "ClaimRun",
    "Scale",
    "ClaimStudy",
    "load_paper",
    "paper_names",
]

report_renamed(__name__)

LINK = r"^https?://[^\s<>\"'`]+$"
"""Pattern of an address that can be used in a page unchanged."""
Scale = Literal["lite", "full"]
Known = Literal["verified", "log", "abstract", "remembered", "inferred", "own"]
"""How a claim is known: read in the paper's table (verified), in the authors' log, or in the
abstract; from memory, not looked up again; or inferred from other facts. ``own``: stated by no
paper, but expected of a correct implementation."""


class _ClaimBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimRun(_ClaimBlock):
    """One strategy on one stream, over several seeds."""

    strategy: str
    scenario: str
    source: str | None = None
    config: dict[str, object] = {}
    """Options of the strategy."""
    stream: dict[str, object] = {}
    """Options of the scenario."""
    seeds: tuple[int, ...] = (0,)
    order_seeds: bool = False
    """Whether the seed is also the seed of the class order."""
    threads: int = 1
    following: str | None = None
    """Run that must be finished first, since both share cached features."""
    reference: str | None = None
    """On streams with requests to forget: run of `retrain` to which distances are measured, with
    the same seeds; it is finished first, too."""

    @property
    def first(self) -> str | None:
        """Run that must be finished first, if any."""
        return self.reference or self.following

    @property
    def facts(self) -> dict[str, object]:
        """The fields from which the name of a run's folder follows, but for the reference."""
        return self.model_dump(mode="json", exclude={"reference"})

    @model_validator(mode="after")
    def _waits_for_one(self) -> "ClaimRun":
        if self.reference and self.following:
            raise ValueError(f"following = {self.following!r} beside a reference: leave it out")
        return self


class ClaimStudy(_ClaimBlock):
    """One strategy, tuned on one side of a pair and evaluated on the other."""

    strategy: str
    pair: str
    mode: str = "transfer"
    config: dict[str, object] = {}
    """Options of the strategy that are not tuned."""
    stream: dict[str, object] = {}
    """Options of the pair's scenario."""
    space: str | None = None
    sampler: str = "counter"
    score_on: Literal["valid", "test"] = "valid"
    trials: int | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def facts(self) -> dict[str, object]:
        """The fields from which the name of a study's folder follows."""
        return self.model_dump(mode="json")


class Claim(_ClaimBlock):
    """A number, an order of two, or an agreement of ranks over several studies."""

    measure: str
    """Key of `clgym.papers.measures.MEASURES`."""
    of: str | None = None
    """Run or study of which the number is stated."""
    value: float | None = None
    """Claimed value in percent, or in the measure's own unit."""
    tolerance: float = Field(default=0.0, ge=0)
    better: str | None = None
    worse: str | None = None
    gap: float | None = None
    """Difference that the paper reports, in points; shown but not tested."""
    ranks: tuple[str, ...] = ()
    """Studies whose tuning ranks and evaluation ranks are compared."""
    where: str
    """Place where the claim is stated: table, abstract, log."""
    known: Known
    note: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "Claim":
        kinds = [self.of is not None, self.better is not None, bool(self.ranks)]
        if sum(kinds) != 1 or (self.better is None) != (self.worse is None):
            raise ValueError("a claim needs `of`, or `better` and `worse`, or `ranks`")
        if self.of is not None and self.value is None:
            raise ValueError("a claim about a number needs its `value`")
        if self.measure not in MEASURES:
            raise ValueError(f"no measure {self.measure!r}; there are {', '.join(MEASURES)}")
        return self

    @property
    def about(self) -> tuple[str, ...]:
        """Names of the runs and studies that the claim is about."""
        return tuple(n for n in (self.of, self.better, self.worse, *self.ranks) if n is not None)


class ClaimRow(_ClaimBlock):
    """Claims that are tested together."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    scale: Scale
    about: str
    """What is compared, in a sentence; for `lite`, how it differs from the paper."""
    hours: float = Field(gt=0)
    """Estimated hours on ``device``; finished runs are not repeated."""
    device: Literal["cpu", "cuda"] = "cpu"
    claims: tuple[Claim, ...] = ()
    also: tuple[str, ...] = ()
    """Runs that are shown beside the claims. A row may consist of such runs only."""
    get: str = ""
    """Where to get data or weights and where to put them, unless `clgym show SOURCE` says so."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of all runs and studies of the row."""
        names = [name for claim in self.claims for name in claim.about]
        return tuple(dict.fromkeys([*names, *self.also]))


class Paper(_ClaimBlock):
    """One file of claims."""

    name: str
    title: str
    authors: str
    venue: str
    year: int
    link: str = Field(pattern=LINK)
    strategies: tuple[str, ...]
    """Strategies of this repository that the paper is about."""
    runs: dict[str, ClaimRun] = {}
    studies: dict[str, ClaimStudy] = {}
    rows: tuple[ClaimRow, ...]

    @model_validator(mode="after")
    def _names_are_known(self) -> "Paper":
        known = self.runs.keys() | self.studies.keys()
        if shared := self.runs.keys() & self.studies.keys():
            raise ValueError(f"{', '.join(shared)}: a run and a study have the same name")
        names = [row.name for row in self.rows]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two rows have the name {', '.join(doubled)}")
        for row in self.rows:
            if not row.wanted:
                raise ValueError(f"row {row.name} names no run")
            if missing := set(row.wanted) - known:
                raise ValueError(f"row {row.name} names {', '.join(sorted(missing))}: no such run")
        wanted = {name for row in self.rows for name in row.wanted}
        followed = {run.first for run in self.runs.values() if run.first}
        if idle := known - wanted - followed:
            raise ValueError(f"no row names {', '.join(sorted(idle))}")
        if lost := followed - self.runs.keys():
            raise ValueError(f"no run {', '.join(sorted(lost))} to follow")
        if chained := {name for name in followed if self.runs[name].first}:
            raise ValueError(
                f"{', '.join(sorted(chained))}: a run that others follow must not follow another"
            )
        for name, run in self.runs.items():
            if run.reference and set(run.seeds) - set(self.runs[run.reference].seeds):
                raise ValueError(f"{name}: its reference {run.reference} has other seeds")
        return self

    @cached_property
    def by_row(self) -> dict[str, ClaimRow]:
        """Rows by name."""
        return {row.name: row for row in self.rows}


def folder() -> Path:
    """Folder of the files: beside the package in a checkout, inside it in a wheel."""
    beside = ROOT / "leaderboards" / "papers"
    return beside if beside.is_dir() else PACKAGE / "papers_data"


def paper_names(place: Path | None = None) -> list[str]:
    """Names of all papers, sorted."""
    return sorted(file.stem for file in (place or folder()).glob("*.toml"))


def load_paper(name: str, place: Path | None = None) -> Paper:
    """Read a paper's file.

    Args:
        name: Name of the file, without its ending.
        place: Another folder than clgym's own.

    Raises:
        UnknownName: There is no such paper.
        BadRecord: The file does not validate.
    """
    file = (place or folder()) / f"{name}.toml"
    if not file.is_file():
        names = paper_names(place)
        fix = f"{near(name, names)}There are {', '.join(names) or 'none'}"
        raise UnknownName(expected="a paper", found=repr(name), fix=fix)
    try:
        data = tomllib.loads(file.read_text())
        for kind in ("runs", "studies"):
            data[kind] = _inherited(data.get(kind, {}))
        return Paper.model_validate({"name": name, **data})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
    except (ValueError, KeyError) as error:
        reason = str(error)
    raise BadRecord(
        expected=f"claims in {file.name}",
        found=reason,
        fix="Correct the file; the docstring of clgym/papers/claims.py shows its form",
    )


_Table = dict[str, Any]  # as TOML has it; `Paper` validates it


def _inherited(tables: Mapping[str, _Table]) -> dict[str, _Table]:
    """Each table, completed by fields of the one it is `like`; options are merged one by one."""
    done: dict[str, _Table] = {}

    def resolve(name: str, above: tuple[str, ...] = ()) -> _Table:
        if name in done:
            return done[name]
        if name in above or name not in tables:
            raise ValueError(
                f"{(*above, name)[0]} is like {name}, which does not exist or leads in a circle"
            )
        own = dict(tables[name])
        base = resolve(own.pop("like"), (*above, name)) if "like" in own else {}
        for key in ("config", "stream"):
            if key in base or key in own:
                own[key] = {**base.get(key, {}), **own.get(key, {})}
        done[name] = {**base, **own}
        return done[name]

    return {name: resolve(name) for name in tables}
