"""Import names of clgym 0.1: some still work, the others raise an error with the new name.

Names that the documentation of plugins used still work (`MOVED`). All others raise
`Renamed`, which states the new name. If you rename a public module, class or function,
add a line to one of the three tables.
"""

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clgym.errors import Renamed

__all__ = [
    "MOVED",
    "RENAMED_MODULES",
    "RENAMED_NAMES",
    "install",
    "refuse_gone_methods",
    "report_renamed",
    "report_renamed_method",
]

# Modules that can be imported by either name.
MOVED = {
    "clgym.adaptation.learner": "clgym.learner.adaptation",
    "clgym.adaptation.orders": "clgym.streams.orders",
    "clgym.adaptation.strategy": "clgym.adaptation",
    "clgym.adaptation.stream": "clgym.streams.adaptation",
    "clgym.adaptation.two_phases": "clgym.streams.two_phases",
    "clgym.record": "clgym.results.record",
    "clgym.trained": "clgym.learner.trained",
}

# Modules whose old name raises `Renamed`.
RENAMED_MODULES = {
    "clgym.adaptation.images": "clgym.gym.images",
    "clgym.adaptation.run": "clgym.gym.adaptation",
    "clgym.adaptation.scores": "clgym.results.online_errors",
    "clgym.adaptation.two_phase_run": "clgym.gym.session",
    "clgym.assemble": "clgym.learner.assembly",
    "clgym.avalanche._lean": "clgym.avalanche._lazy_imports",
    "clgym.avalanche.bodies": "clgym.avalanche.model_adapters",
    "clgym.avalanche.cures": "clgym.avalanche.patches",
    "clgym.avalanche.reach": "clgym.avalanche.retention",
    "clgym.avalanche.view": "clgym.avalanche.experience_view",
    "clgym.board.canvas": "clgym.board.figures.canvas",
    "clgym.board.charts": "clgym.board.page.charts",
    "clgym.board.claims": "clgym.board.page.claims",
    "clgym.board.curves": "clgym.board.figures.curves",
    "clgym.board.details": "clgym.board.page.details",
    "clgym.board.entries": "clgym.board.reading.entries",
    "clgym.board.found": "clgym.board.reading.found",
    "clgym.board.plots": "clgym.board.figures.plots",
    "clgym.board.render": "clgym.board.page.render",
    "clgym.board.report_parts": "clgym.board.report.parts",
    "clgym.board.report_runs": "clgym.board.report.run_sections",
    "clgym.board.report_study": "clgym.board.report.study_sections",
    "clgym.board.source_files": "clgym.board.reading.source_files",
    "clgym.board.studies": "clgym.board.reading.studies",
    "clgym.board.tables": "clgym.board.page.tables",
    "clgym.check.reach": "clgym.check.retention",
    "clgym.compare": "clgym.results.compare",
    "clgym.environment": "clgym.gym.environment",
    "clgym.generators": "clgym.data.generators",
    "clgym.learning_run": "clgym.gym.learning",
    "clgym.loggers": "clgym.gym.loggers",
    "clgym.metrics": "clgym.results.metrics",
    "clgym.models.run_networks": "clgym.learner.run_networks",
    "clgym.peak_memory": "clgym.learner.peak_memory",
    "clgym.replies": "clgym.learner.replies",
    "clgym.request": "clgym.gym.request",
    "clgym.run_folder": "clgym.gym.folder",
    "clgym.runner": "clgym.gym.run",
    "clgym.scoring": "clgym.gym.scoring",
    "clgym.state": "clgym.learner.state",
}

# Module that had the name: {old name: new name, with the module where it stands}. Each of these
# modules calls `report_renamed(__name__)`.
RENAMED_NAMES = {
    "clgym.avalanche.sgd": {"AUGMENT": "clgym.data.augment.AUGMENTATIONS"},
    "clgym.avalanche.feed": {"Feed": "clgym.avalanche.feed.TrainLoader"},
    "clgym.board.submission": {
        "Finding": "clgym.board.submission.SubmissionFinding",
        "Found": "clgym.board.submission.SubmittedRecords",
    },
    "clgym.config": {"Range": "annotated_types.Interval"},
    "clgym.data.cards": {"Card": "clgym.data.cards.DatasetInfo"},
    "clgym.data.locate": {"Found": "clgym.data.locate.LocatedFiles"},
    "clgym.data.store": {
        "Half": "clgym.data.store.RawSplit",
        "Kept": "clgym.data.store.CachedDataset",
    },
    "clgym.data.vectors": {"Entry": "clgym.data.vectors.VectorSlot"},
    "clgym.engines.spec": {"Pool": "clgym.engines.spec.WorkerPool"},
    "clgym.learner.adaptation": {
        "Passes": "clgym.learner.adaptation.PassCounter",
        "offered": "clgym.learner.adaptation.build_resources",
        "prepared": "clgym.learner.adaptation.to_float",
    },
    "clgym.models.backbones": {"Identity": "clgym.messages.BackboneIdentity"},
    "clgym.models.source_models": {"Wanted": "clgym.models.source_models.ClassifierSpec"},
    "clgym.papers.claims": {
        "Row": "clgym.papers.claims.ClaimRow",
        "Run": "clgym.papers.claims.ClaimRun",
        "Study": "clgym.papers.claims.ClaimStudy",
    },
    "clgym.protocol.jobs": {
        "told": "clgym.protocol.jobs.run_summary",
    },
    "clgym.protocol.ledger": {
        "Entry": "clgym.protocol.ledger.LedgerEntry",
        "locked": "clgym.files.locked",
    },
    "clgym.protocol.pairs": {"Pair": "clgym.protocol.pairs.ScenarioPair"},
    "clgym.protocol.plan": {"Plan": "clgym.protocol.plan.StudyPlan"},
    "clgym.protocol.runs": {
        "Spec": "clgym.protocol.runs.TrialRun",
        "Where": "clgym.protocol.runs.ExecutionOptions",
    },
    "clgym.protocol.study": {
        "Asked": "clgym.protocol.study.StudySpec",
    },
    "clgym.protocol.verify": {
        "ODD": "clgym.protocol.audit.MALFORMED",
        "TOLERANCE_GPU": "clgym.protocol.repeat.TOLERANCE_GPU",
    },
    "clgym.results.record": {"read_record": "clgym.results.stored.open_run"},
    "clgym.streams.adaptation": {
        "arranged": "clgym.streams.arrangement.arranged",
        "labels_of": "clgym.streams.arrangement.labels_of",
        "rows_by_segment": "clgym.streams.arrangement.rows_by_segment",
        "rows_of": "clgym.streams.arrangement.rows_of",
        "segment_labels": "clgym.streams.arrangement.segment_labels",
    },
    "clgym.registry": {
        "Entry": "clgym.registry.PluginEntry",
        "lent": "clgym.registry.temporarily_registered",
    },
    "clgym.strategy": {"keyed_generator": "clgym.strategy.torch_generator"},
}

_SPELLING = {
    "clgym.config.Range": "; write Range(0, 1) as Ge(0), Le(1) or as Interval(ge=0, le=1), "
    "exclusive=True as Gt(0), and limits of a list's numbers at the number: "
    "tuple[Annotated[int, Ge(1)], ...]",
    "clgym.results.record.read_record": "; the record is open_run(folder).record",
}
"""Further changes, for names that are also used differently."""


def _renamed(old: str, new: str) -> "Renamed":
    # imported here for a fast start, since few processes ever need it
    from clgym.errors import Renamed

    return Renamed(
        expected="a name of clgym 0.2",
        found=old,
        fix=f"{old} is called {new} since 0.2: change the import" + _SPELLING.get(old, ""),
    )


def report_renamed(module: str) -> None:
    """Make a module raise `Renamed` for its old names.

    A ``def __getattr__`` in the module would do the same, but type checkers would then accept any
    name.

    Args:
        module: The caller's ``__name__``, a key of `RENAMED_NAMES`.
    """
    names = RENAMED_NAMES[module]

    def __getattr__(name: str) -> Any:
        if name in names:
            raise _renamed(f"{module}.{name}", names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    vars(sys.modules[module])["__getattr__"] = __getattr__


def report_renamed_method(old: str, new: str) -> property:
    """A property under the old name of a method, which raises `Renamed`.

    Args:
        old: Class and method of clgym 0.2.
        new: Present name of the method.
    """

    def renamed(self: object) -> Any:
        from clgym.errors import Renamed

        raise Renamed(
            expected="a method of clgym 0.3",
            found=old,
            fix=f"{old} is called self.{new} since 0.3, with the same draws",
        )

    return property(renamed, doc=f"Former name of `{new}`.")


GONE_METHODS = {
    "clgym.strategy.Strategy": {
        "parameter_count": "The gym counts parameters in the same way for every strategy: remove it"
    },
    "clgym.adaptation.AdaptStrategy": {
        "parts": "All attributes are the state, except those that `transient` names: remove it"
    },
}
"""Methods that are no longer called and what to do, by the base class that had them."""


def refuse_gone_methods(cls: type) -> None:
    """Refuse a strategy that defines a method which is no longer called.

    Raises:
        Renamed: The strategy defines such a method.
    """
    from clgym.errors import Renamed

    bases = {f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__[1:]}
    gone = {n: fix for b in bases & GONE_METHODS.keys() for n, fix in GONE_METHODS[b].items()}
    for name, fix in gone.items():
        if callable(vars(cls).get(name)):
            raise Renamed(
                expected="a strategy of clgym 0.3",
                found=f"{cls.__name__}.{name}, which is no longer called",
                fix=fix,
            )


class _MovedFinder:
    """Imports a moved module under its old name, or raises an error with its new name.

    It is finder and loader in one. It does not derive from their base classes, whose import takes a
    tenth of the time of `clgym --help`.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        known = fullname in MOVED or fullname in RENAMED_MODULES
        loader: Any = self
        return importlib.machinery.ModuleSpec(fullname, loader) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        if spec.name in RENAMED_MODULES:
            raise _renamed(spec.name, RENAMED_MODULES[spec.name])
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import statement returns the entry of sys.modules at the end of this function.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def install() -> None:
    """Install the finder of old names behind all others, so that no other import becomes slower."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        finder: Any = _MovedFinder()
        sys.meta_path.append(finder)
