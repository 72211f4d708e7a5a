"""File names of a finished run, and the folders of runs below a folder.

No schema is imported here, so that asking whether a folder holds a run is fast.
"""

from pathlib import Path

__all__ = ["PREDICTIONS", "RECORD", "SERIES", "STATE", "is_run", "run_folders"]

RECORD = "record.json"
SERIES = "series.csv"
PREDICTIONS = "predictions.safetensors"
STATE = "state.safetensors"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a record."""
    return (folder / RECORD).is_file()


def run_folders(folder: Path) -> list[Path]:
    """List the folders of runs at a place: the folder itself, else those directly inside it.

    Args:
        folder: Output of one run, or of a run with ``--seeds``.

    Returns:
        The folders in the order of their names; empty if there is no record.
    """
    if is_run(folder):
        return [folder]
    return [file.parent for file in sorted(folder.glob(f"*/{RECORD}"))]
