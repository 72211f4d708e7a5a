"""The data root: the folder that holds datasets, weights and classifiers."""

import os
from pathlib import Path

import platformdirs

__all__ = ["VARIABLE", "data_root"]

VARIABLE = "CLGYM_DATA"


def data_root(given: Path | None = None) -> Path:
    """Return the data root, which need not exist yet.

    Args:
        given: What the user gave as ``--data-root``; None means ``CLGYM_DATA``, or the system's
            folder for the data of a user where that is not set, either.
    """
    chosen = given or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("clgym"))
