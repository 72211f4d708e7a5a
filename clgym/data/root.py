"""The data root: the folder that holds datasets, weights and classifiers."""

import os
from pathlib import Path

import platformdirs

__all__ = ["VARIABLE", "data_root"]

VARIABLE = "CLGYM_DATA"


def data_root(given: Path | None = None) -> Path:
    """Return the data root, which need not exist yet.

    Args:
        given: Value of ``--data-root``; None means ``CLGYM_DATA`` or, if that is not set, the
            system's folder for user data.
    """
    chosen = given or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("clgym"))
