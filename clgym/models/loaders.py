"""Registry of networks that higher packages provide under a prefix, such as ``run@FOLDER``.

`clgym.learner` registers a loader for the networks of finished runs, so that this package need not
import it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import nn

from clgym.strategy import Classifier

__all__ = ["HeadlessNetwork", "NetworkLoader", "loader_of", "loader_of_folder", "register"]


class HeadlessNetwork(nn.Module):
    """Maps images in [0, 1] to features [n, num_features]; wrapped by `clgym.models.backbones`."""

    num_features: int
    channels: int
    """Number of channels of the images that it was trained on."""
    side: int
    """Side of those images in pixels."""
    sources: Sequence[str]
    """Names of the image sets that it was trained on."""


class NetworkLoader(Protocol):
    """Interface of a loader of the networks in a folder."""

    def owns(self, folder: Path) -> bool:
        """Whether the folder holds a network of this kind."""
        ...

    def weights_file(self, folder: Path) -> Path:
        """The file that holds the weights.

        Raises:
            MissingData: The folder has no such file.
        """
        ...

    def network(self, weights: Path) -> HeadlessNetwork:
        """Load the network of a weight file, without its head.

        Raises:
            Incompatible: The run's strategy does not predict by a single network.
        """
        ...

    def classifier(self, folder: Path) -> tuple[Classifier, tuple[str, ...]]:
        """The network with its head, and the class name of each column.

        Raises:
            Incompatible: The run's strategy does not predict by a single network.
        """
        ...


_loaders: dict[str, NetworkLoader] = {}


def register(prefix: str, loader: NetworkLoader) -> None:
    """Register a loader for backbones named ``PREFIX@FOLDER``."""
    _loaders[prefix] = loader


def loader_of(prefix: str) -> NetworkLoader | None:
    """Loader for the part of a name before the @; None if it is an architecture."""
    return _loaders.get(prefix)


def loader_of_folder(folder: Path) -> NetworkLoader | None:
    """Loader that can read a folder; None if there is none."""
    return next((loader for loader in _loaders.values() if loader.owns(folder)), None)
