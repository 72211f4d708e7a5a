"""The plan of a study, fixed before its first trial, and the certificate of its outcome."""

import functools
import hashlib
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_serializer

from clgym._checkout import PACKAGE
from clgym._moved import report_renamed
from clgym._version import __version__
from clgym.files import canonical_json, sha256
from clgym.gym.environment import package_versions
from clgym.protocol.pairs import ScenarioPair
from clgym.results.record import Environment

__all__ = [
    "Body",
    "ByHand",
    "Certificate",
    "Choice",
    "Code",
    "Criterion",
    "Mode",
    "Pruner",
    "StudyPlan",
    "Trial",
    "code_identity",
    "code_of",
    "evaluation_seeds",
]

report_renamed(__name__)

PROTOCOL = "clgym-protocol-1"
Mode = Literal[
    "transfer",
    "oracle",
    "first_task",
    "first_k",
    "current_task",
    "stability_decay",
    "default",
]
Criterion = Literal["mean", "acc", "avg_acc", "harmonic"]
Digest = Field(pattern="^[0-9a-f]{64}$")
_LATER = ("record_hash", "known_failures", "helpers", "one_of", "pruner", "by_hand")
"""Fields of a plan that clgym 0.1 did not have."""


class _PlanBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON."""
        return sha256(canonical_json(self.model_dump(mode="json")))


class Code(_PlanBlock):
    """Identity of the code that ran."""

    clgym: str
    commit: str | None
    """Commit of the checkout; None outside of one."""
    tree: str = Digest
    """SHA-256 over all Python files of the package, its strategies and scenarios, which reveals
    uncommitted changes."""
    python: str
    packages: dict[str, str]


class Facts(_PlanBlock):
    """Facts about one side of the pair, found by the survey."""

    name: str
    fingerprint: str = Digest
    flags: tuple[str, ...]


class Pruner(_PlanBlock):
    """Early stopping of trials: the rule, and after which experiences it decides."""

    rule: Literal["successive-halving", "median"]
    rungs: tuple[int, ...] = Field(min_length=1)
    """Numbers of experiences after which trials are compared, ascending."""

    @property
    def words(self) -> str:
        """The rule and its rungs, for people."""
        return f"{self.rule} after experience {', '.join(map(str, self.rungs))}"


class ByHand(_PlanBlock):
    """What the author of a study chose although the strategy states it."""

    options: tuple[str, ...]
    """Names, sorted, of the options of `StudyPlan.base` that the author set: to another value than
    that of the strategy or the pair, or although they would have been tuned."""
    own_space: bool
    """Whether the search space is the strategy's own, or one that `clgym.protocol.gtep` publishes,
    and no file of the author's."""


class StudyPlan(_PlanBlock):
    """Everything that determines a study's outcome. Its hash is in the first line of the ledger."""

    protocol: Literal["clgym-protocol-1"] = PROTOCOL
    pair: ScenarioPair
    pair_hash: str = Digest
    tuning: Facts
    evaluation: Facts
    overlap_hash: str = Digest
    withheld_images: tuple[str, ...]
    """SHA-256 of images in both sides, which the tuning side must not use."""
    experiences: int
    mode: Mode
    k: int
    """Number of experiences that the modes `first_task` and `first_k` use; else 0."""
    strategy: str
    source_hash: str = Digest
    base: dict[str, JsonValue]
    """All options of the strategy that are not tuned."""
    space: list[dict[str, JsonValue]]  # as `Space.describe` writes it
    space_hash: str = Digest
    stability: dict[str, float]
    """Strongest values of the options that `stability_decay` halves."""
    sampler: str
    sampler_seed: int
    generation: int
    """Number of trials that an adaptive sampler proposes at once; 0 for others."""
    trials: int
    seeds: tuple[int, ...]
    evaluation_seeds: tuple[int, ...]
    criterion: Criterion
    score_on: Literal["test", "valid"]
    validation: float
    """Fraction of the training rows that is held out; 0 on adaptation streams, which have none."""
    cap_images: int | None
    """Number of training images over all runs after which no further trial counts."""
    threads: int
    device: str
    """Kind of device: cpu or cuda."""
    code: Code
    record_hash: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Code hash in the study's records: that of the strategy's file or, for a strategy that wraps
    others, of all their files. None if trials wrap different ones, and in earlier plans."""
    known_failures: dict[str, str] | None = None
    """Checks that the strategy declares to fail, with the reason; None in earlier plans."""
    helpers: dict[str, str] | None = None
    """SHA-256 of the files that the strategy's import reads, by name; None if there are none, and
    in earlier plans."""
    one_of: tuple[int, int] | None = None
    """Number of this study, from 1, and number of studies that are reported by their median; None
    for a single study.
    """
    pruner: Pruner | None = None
    """Early stopping of trials; None if every trial learns the whole stream."""
    by_hand: ByHand | None = None
    """What the author chose by hand; None in earlier plans, which do not say."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, object]:
        """Leave out unused fields, so that the hash of earlier plans does not change."""
        values = handler(self)
        return {k: v for k, v in values.items() if k not in _LATER or v is not None}

    @property
    def method_hash(self) -> str:
        """Code hash that a record of this study must state, if the plan fixes it."""
        return self.record_hash or self.source_hash

    @property
    def fixes_method(self) -> bool:
        """Whether all records state one code hash; earlier plans do not list wrapped strategies."""
        wraps = any("." in option for option in (*self.base, *(str(p["name"]) for p in self.space)))
        return self.record_hash is not None or not wraps

    @property
    def tunes_on_evaluation(self) -> bool:
        """Whether the mode uses the evaluation source for tuning."""
        return self.mode not in ("transfer", "default")

    @property
    def set_by_hand(self) -> dict[str, JsonValue]:
        """Options that the author set by hand, with their values; empty for earlier plans."""
        names = self.by_hand.options if self.by_hand else ()
        return {name: self.base[name] for name in names}

    @property
    def adapts(self) -> bool:
        """Whether its runs adapt to an unlabelled stream, so that errors are measured."""
        return not self.validation

    @property
    def per_seed(self) -> bool:
        """Whether hyper-parameters are chosen separately for each stream."""
        return self.tunes_on_evaluation

    def options(self, evaluating: bool) -> dict[str, object]:
        """Options of the scenario for a run of this study."""
        on_evaluation = evaluating or self.tunes_on_evaluation
        side = self.pair.evaluation if on_evaluation else self.pair.tuning
        options = {**self.pair.config, **side.options()}
        if not self.validation:
            return options
        held = 0.0 if evaluating or self.score_on == "test" else self.validation
        return {**options, "validation": held}


class RunScore(_PlanBlock):
    """Score of one run of a trial."""

    seed: int
    status: Literal["done", "failed"]
    last_accuracy: float | None = None
    average_incremental_accuracy: float | None = None
    images: int = 0
    result: str | None = None
    """SHA-256 of the record's `result` block."""
    error: str | None = None
    """Name of the error of a failed run."""


class Trial(_PlanBlock):
    """One set of hyper-parameters and its score."""

    trial: int
    config: dict[str, object]
    status: Literal["done", "failed", "over-cap", "pruned"]
    score: float | None
    """Score of the trial; None, which counts as minus infinity, unless every seed was completed."""
    runs: tuple[RunScore, ...]
    """Its runs, one per seed; of a trial that was stopped early, up to where it was stopped."""
    seed: int | None = None
    """Seed of the stream, in modes that choose separately for each stream."""
    experience: int | None = None
    """Experience, in modes that choose separately for each experience."""
    pruned_after: int | None = None
    """Number of experiences after which the trial was stopped early; None if it was not."""

    @property
    def outcome(self) -> str:
        """How the trial ended, in words."""
        place = "" if self.pruned_after is None else f" after experience {self.pruned_after}"
        return f"{self.status}{place}"

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, object]:
        """Trials of earlier versions hash as ever."""
        values = handler(self)
        return {k: v for k, v in values.items() if k != "pruned_after" or v is not None}


class Choice(_PlanBlock):
    """The chosen hyper-parameters."""

    seed: int | None
    """Seed of the stream to which the choice applies; None for all."""
    configs: tuple[dict[str, object], ...]
    """Hyper-parameters: one set for the whole stream, or one per experience."""
    trials: tuple[int | None, ...]
    score: float | None


class Body(_PlanBlock):
    """Outcome of the study, which is deterministic and does not depend on the workers."""

    plan: StudyPlan
    plan_hash: str = Digest
    trials: tuple[Trial, ...]
    chosen: tuple[Choice, ...]
    budget: dict[str, int]
    """Numbers of trials started, finished, failed and pruned, of runs, and of training images."""
    device_class: str
    read_files: dict[str, str] | None = None
    """SHA-256 of the files that the strategy's code read in the tuning runs, by name; None if there
    were none, and in earlier certificates."""

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, object]:
        """Leave out unused fields, so that the hash of earlier bodies does not change."""
        values = handler(self)
        return {k: v for k, v in values.items() if k != "read_files" or v is not None}


class Envelope(_PlanBlock):
    """Facts that may differ between studies with one outcome, protected by the ledger's seal."""

    sealed_at: float
    wall_seconds: float
    sessions: int
    retries: int
    engine: str
    workers: int
    ledger_head: str = Digest
    """Head of the ledger before the seal."""
    study_number: int
    """Position among the known studies of this method and evaluation."""
    evaluations_before: int
    """Number of evaluations of those studies."""
    registry: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Head of the registry in which the studies were counted; None in earlier certificates."""
    trials_without: tuple[Literal["process", "sandbox"], ...] | None = None
    """What learners of some trials lacked: a process of their own, a sandbox. None in earlier
    certificates, which do not say."""


class Certificate(_PlanBlock):
    """``certificate.json``."""

    schema_version: Literal[1] = 1
    hash: str = Digest
    """SHA-256 of the canonical JSON of ``body``."""
    body: Body
    envelope: Envelope


@functools.cache
def code_identity() -> Code:
    """Version, commit and content of this process's code."""
    root = PACKAGE
    folders = {root, *(_folder(name) for name in ("strategies", "scenarios"))}
    state = hashlib.sha256()
    files = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    for name, path in sorted((f"{p.parent.name}/{p.name}", p) for p in files):
        state.update(f"{name}\n{sha256(path.read_bytes())}\n".encode())
    packages = package_versions()
    return Code(
        clgym=__version__,
        commit=_commit(root),
        tree=state.hexdigest(),
        python=platform.python_version(),
        packages={**packages, **_optional("optuna")},
    )


def code_of(where: Code | Environment, packages: Sequence[str] | None = None) -> dict[str, object]:
    """Versions that both a plan and a record state.

    Args:
        where: The plan's code, or a record's environment.
        packages: Packages to include; None means all that are stated.
    """
    named = where.packages if packages is None else dict.fromkeys(packages)
    versions = {name: where.packages.get(name) for name in named}
    return {"clgym": where.clgym, "python": where.python, "packages": versions}


def _folder(name: str) -> Path:
    import importlib

    return Path(importlib.import_module(f"clgym.{name}").__path__[0])


def _optional(name: str) -> dict[str, str]:
    try:
        return {name: importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        return {}


def _commit(root: Path) -> str | None:
    git = shutil.which("git")
    if git is None or not (root.parent / ".git").exists():
        return None
    command = [git, "-C", str(root.parent), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def evaluation_seeds(pair: ScenarioPair, count: int) -> tuple[int, ...]:
    """Seeds derived from the protocol, the pair and the count, so that nobody can choose them."""
    digests = (sha256(f"{PROTOCOL}\n{pair.digest}\nevaluation\n{i}".encode()) for i in range(count))
    return tuple(int(digest[:8], 16) % 2**31 for digest in digests)
