"""Columns of the board's tables, by the kind of stream."""

from dataclasses import dataclass

from clgym.board.page.after_requests import REQUEST_MEASURES

__all__ = [
    "Column",
    "ADAPTATION",
    "DELETION",
    "EVALUATION_TIME",
    "FIRST",
    "GROUP",
    "LAST",
    "LEARNING",
    "PRETRAINING",
    "RUN_TIME",
    "SEEDS",
    "SHIFT",
    "TUNING",
]


@dataclass(frozen=True)
class Column:
    """A column: its key and its title."""

    key: str
    title: str
    numeric: bool = True
    wide: bool = False
    """Whether the column is hidden on narrow screens; the details of a row contain it anyway."""
    optional: bool = False
    """Whether a table leaves the column out if no row has a value for it."""


FIRST = (
    Column("rank", "Rank"),
    Column("method", "Method", numeric=False),
    Column("mode", "Tuning", numeric=False),
)
GROUP = Column("group", "Group", numeric=False, wide=True)
"""Letters of a compact letter display, in tables with several ranked rows."""
LEARNING = (
    Column("score", "Last accuracy, %"),
    GROUP,
    Column("average", "Average incremental, %", wide=True),
    Column("forgetting", "Forgetting, points", wide=True),
)
SHIFT = Column("shift", "Error under shift, %", wide=True)
"""Column of streams with a learning phase followed by an adaptation phase."""
DELETION = (
    Column("score", "Last accuracy before the requests, %"),
    GROUP,
    *(
        Column(key, title, wide=key not in ("forgotten", "retained"))
        for key, title in REQUEST_MEASURES.items()
    ),
)
"""Columns of streams with requests to forget."""
PRETRAINING = (
    Column("score", "Last accuracy of the linear probe, %"),
    GROUP,
    Column("average", "Average incremental, %", wide=True),
    Column("forgetting", "Forgetting, points", wide=True),
    Column("neighbours", "Last accuracy of the nearest neighbours, %", wide=True),
)
"""Columns of streams without labels, where probes of features are scored."""
TUNING = Column("tuning", "Tuning score, % (rank)", wide=True, optional=True)
"""Column of evaluations: tuning score of the chosen hyper-parameters, and its rank within the mode.
"""
ADAPTATION = (
    Column("score", "Mean error, %"),
    GROUP,
    Column("pooled", "Pooled error, %", wide=True),
    Column("calibration", "Calibration error, %", wide=True),
)
RUN_TIME = Column("time", "Time per run", wide=True)
EVALUATION_TIME = Column("time", "Total time", wide=True)
SEEDS = Column("seeds", "Seeds", wide=True)
LAST = (
    Column("parameters", "Parameters", wide=True),
    Column("network", "Backbone", numeric=False, wide=True, optional=True),
    Column("memory", "Memory, images (bytes)", wide=True),
    Column("paper", "Paper", numeric=False, wide=True, optional=True),
    Column("year", "Year", wide=True, optional=True),
    Column("trust", "Trust", numeric=False),
    Column("flags", "Warnings", numeric=False, wide=True),
)
