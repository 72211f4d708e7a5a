"""Records of several runs as rows of tables, for notebooks and for pandas."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from clgym.errors import MissingExtra
from clgym.results.html_table import html_table
from clgym.results.record import Record

__all__ = ["Records"]

Row = dict[str, Any]
"""A row: values by column. ``Any``: an option of a strategy may be of any type."""


class Records(list[Record]):
    """A list of records.

    It can be used like any list, and written as tables: `rows` has one row for each run,
    `experience_rows` one for each pair of experiences of each run.
    """

    def rows(self) -> list[Row]:
        """Return one row for each run: its identity, measurements and costs.

        Accuracies and errors are fractions. Options of the strategy and of the scenario have
        ``option.`` and ``scenario.`` in front of their names. Values that a record lacks are None.
        """
        return _filled(map(_row, self))

    def experience_rows(self) -> list[Row]:
        """Return one row for each cell of each run's accuracy matrix that was measured.

        Experiences are counted from 1: ``after`` is the last one learned, ``tested`` the one whose
        test rows were predicted.
        """
        return [
            {**_names(record), "after": i, "tested": j, "accuracy": value}
            for record in self
            for i, row in enumerate(record.result.accuracy_matrix, 1)
            for j, value in enumerate(row, 1)
            if value is not None
        ]

    def to_pandas(self) -> Any:
        """Return `rows` as a `pandas.DataFrame`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return _frame(self.rows())

    def experiences_to_pandas(self) -> Any:
        """Return `experience_rows` as a `pandas.DataFrame`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return _frame(self.experience_rows())

    def to_html(self) -> str:
        """Return the most important columns as an HTML table; text in records is escaped."""
        return html_table([record.headline for record in self])

    def _repr_html_(self) -> str:
        """Show the list as a table in a notebook."""
        return self.to_html()


def _names(record: Record) -> Row:
    result = record.result
    return {
        "strategy": result.strategy.label,
        "scenario": result.scenario.name,
        "seed": result.seed,
        "order_seed": result.order_seed,
        "speed_options": " ".join(result.numerics.words()) if result.numerics else None,
    }


def _row(record: Record) -> Row:
    result, cost, where = record.result, record.cost, record.environment
    shift = result.adaptation
    return {
        **_names(record),
        "setting": result.scenario.setting,
        "sources": ", ".join(source.name for source in result.sources),
        "scored_on": result.scored_on,
        "last_accuracy": result.last_accuracy,
        "average_incremental_accuracy": result.average_incremental_accuracy,
        "forgetting": result.forgetting,
        "backward_transfer": result.backward_transfer,
        "forward_transfer": result.forward_transfer,
        "anytime_area": result.anytime and result.anytime.area,
        "mean_error": shift and shift.mean_error,
        "pooled_error": shift and shift.pooled_error,
        "parameters": result.parameters,
        "stored_samples": result.stored_samples,
        "wall_seconds": cost.wall_seconds,
        "train_seconds": sum(cost.train_seconds),
        "predict_seconds": sum(cost.predict_seconds),
        "cpu_seconds": cost.cpu_seconds,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "added_memory_bytes": cost.added_memory_bytes,
        "train_flops": cost.total_train_flops,
        "predict_flops_per_image": cost.predict_flops_per_image,
        "energy_joules": sum(cost.energy_joules.values()) if cost.energy_joules else None,
        "gpu_utilisation": cost.gpu_utilisation,
        "device": where.device,
        "device_name": where.device_name,
        "threads": where.threads,
        "engine": where.engine,
        "clgym": where.clgym,
        "source_hash": result.strategy.source_hash,
        **{f"option.{name}": value for name, value in result.strategy.config.items()},
        **{f"scenario.{name}": value for name, value in result.scenario.config.items()},
    }


def _filled(rows: Iterable[Row]) -> list[Row]:
    """Rows completed with None, so that all have the same columns, in order of first appearance."""
    found = list(rows)
    columns = dict.fromkeys(column for row in found for column in row)
    return [{column: row.get(column) for column in columns} for row in found]


def _frame(rows: Sequence[Row]) -> Any:
    try:
        pandas: Any = importlib.import_module("pandas")  # an extra, often without types
    except ImportError as error:
        raise MissingExtra(
            expected="the package pandas, to make a data frame",
            found="it is not installed",
            fix="pip install 'clgym[pandas]', or use rows() and experience_rows()",
        ) from error
    return pandas.DataFrame(list(rows))
