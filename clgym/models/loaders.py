"""Networks that a room above this one offers under a prefix: ``run@FOLDER`` of finished runs.

`clgym.learner` registers what it offers, so that nothing here needs to know it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import nn

from clgym.strategy import Classifier

__all__ = ["HeadlessNetwork", "NetworkLoader", "loader_of", "loader_of_folder", "register"]


class HeadlessNetwork(nn.Module):
    """Images in [0, 1] to features [n, num_features], for a `clgym.models.backbones.Backbone`."""

    num_features: int
    channels: int
    """Channels of the images that it was trained on."""
    side: int
    """Side of those images in pixels."""
    sources: Sequence[str]
    """Names of the image sets that it was trained on."""


class NetworkLoader(Protocol):
    """Interface of a room that offers the networks of a folder."""

    def owns(self, folder: Path) -> bool:
        """Whether a network of this kind lies there."""
        ...

    def weights_file(self, folder: Path) -> Path:
        """The file that holds the weights.

        Raises:
            MissingData: there is none.
        """
        ...

    def network(self, weights: Path) -> HeadlessNetwork:
        """The network whose weights lie there, its head taken off.

        Raises:
            Incompatible: nothing there answers by one network alone.
        """
        ...

    def classifier(self, folder: Path) -> tuple[Classifier, tuple[str, ...]]:
        """The network with its head, and the class name of each column.

        Raises:
            Incompatible: nothing there answers by one network alone.
        """
        ...


_loaders: dict[str, NetworkLoader] = {}


def register(prefix: str, loader: NetworkLoader) -> None:
    """Let ``PREFIX@FOLDER`` name a network wherever a backbone is named."""
    _loaders[prefix] = loader


def loader_of(prefix: str) -> NetworkLoader | None:
    """Loader of a name's first part; None if it is an architecture."""
    return _loaders.get(prefix)


def loader_of_folder(folder: Path) -> NetworkLoader | None:
    """Loader that can read a folder; None if there is none."""
    return next((loader for loader in _loaders.values() if loader.owns(folder)), None)
