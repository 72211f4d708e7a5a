"""Compare methods: two by paired tests, three or more by their ranks."""

from collections.abc import Sequence
from pathlib import Path

from clgym.board.reading.found import groups_in, load_runs, runs_of_group
from clgym.board.summary.grid import grid_of
from clgym.board.summary.ranking import Ranking, rank_grid
from clgym.errors import BadConfig, BadRecord
from clgym.results.compare import Comparison, compare_sides, side_of

__all__ = ["compare_all"]


def compare_all(paths: Sequence[Path], measure: str | None = None) -> Comparison | Ranking:
    """Compare runs, folders of runs over seeds, and studies.

    Args:
        paths: One path per side: a run, a folder of runs over seeds, or a study; a folder that
            holds several of these stands for all of them.
        measure: Name of the measure by which three sides or more are ranked; None means the last
            accuracy, or the mean error of adaptation streams.

    Raises:
        BadRecord: There are fewer than two sides, or sides that cannot be paired.
        BadConfig: A measure is given for two sides, which are compared by all their measures.
    """
    groups = [group for path in paths for group in groups_in(path)]
    if len(groups) < 2:
        raise BadRecord(
            expected="two sides or more",
            found=f"{len(groups)} at {', '.join(map(str, paths))}",
            fix="Give another run, folder of runs or study to compare with",
        )
    if len(groups) > 2:
        return rank_grid(grid_of(load_runs(groups)), measure)
    if measure is not None:
        raise BadConfig(
            expected="a measure only with three sides or more",
            found=f"{measure} for two sides",
            fix="Leave it out: two sides are compared by all their measures",
        )
    left, right = (side_of(group, runs_of_group(group)) for group in groups)
    return compare_sides(left, right)
