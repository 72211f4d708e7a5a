"""Blocks of a record that identify the strategy, the stream, its sources, and the weights."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue

from clgym.results.block import RecordBlock

__all__ = [
    "BackboneFacts",
    "FileFacts",
    "ModelFacts",
    "ScenarioFacts",
    "SourceFacts",
    "StrategyFacts",
    "label_of",
]


class StrategyFacts(RecordBlock):
    """The strategy that ran, with all its options."""

    name: str
    source_hash: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the plugin's file; for a strategy that wraps others, SHA-256 of the list of their
    hashes."""
    config: dict[str, JsonValue]
    known_failures: dict[str, str] = {}
    """Checks that the strategy declares to fail, with the reason."""

    @property
    def label(self) -> str:
        """The strategy's display name, followed by its wrappers: ``derpp with ema, sam``."""
        return label_of(self.name, self.config)


def label_of(name: str, config: Mapping[str, object]) -> str:
    """Return a strategy's display name; the names of its wrappers follow.

    Args:
        name: The outermost strategy.
        config: Its options; those that name a wrapped strategy are ``base``, ``base.base``, ...
    """
    chain, option = [name], "base"
    while option in config and any(key.startswith(f"{option}.") for key in config):
        chain.append(str(config[option]))
        option += ".base"
    *wrappers, inside = chain
    return f"{inside} with {', '.join(wrappers)}" if wrappers else inside


class ScenarioFacts(RecordBlock):
    """The stream that the strategy ran on."""

    name: str
    setting: str
    config: dict[str, JsonValue]
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the whole stream."""


class SourceFacts(RecordBlock):
    """A source of the stream's images."""

    name: str
    fingerprint: str
    flags: list[str]


class FileFacts(RecordBlock):
    """A file beside the record."""

    file: str = Field(pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class BackboneFacts(RecordBlock):
    """Identity of the pretrained backbone."""

    name: str
    weights: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the network's state without its head."""
    pretraining: list[str]
    """Image sets of the pretraining, as far as known."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    """Comparison of the weights with a table: known, differs (other weights are known by this
    name), unverified (name not in the table), or random."""
    width: int
    parameters: int
    overlap: list[str]
    """Classes of the stream that the pretraining data contain, too."""


class ImagesGiven(RecordBlock):
    """Images without labels of a source outside the stream, drawn by the seed of the run."""

    source: str
    fingerprint: str = Field(pattern="^[0-9a-f]{64}$")
    count: int = Field(ge=1)


class ModelFacts(RecordBlock):
    """Identity of the classifier that a test-time method started from."""

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of all weights and statistics of the classifier."""
