"""Options with search values beside them."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from clgym.config import Search
from clgym.strategies.nmc import NMC
from clgym.strategy import Config


@dataclass(frozen=True)
class SearchedConfig(Config):
    """Options."""

    power: Annotated[float, Ge(0), Search(low=0.5, high=4.0, log=True)] = 1.0
    """Exponent."""
    centre: Annotated[bool, Search(True, False)] = True
    """Subtract the mean."""
    widths: Annotated[
        tuple[Annotated[int, Ge(1)], ...], Search((8,), (8, 4), when={"centre": [True]})
    ] = (8,)
    """Widths."""


class Searched(NMC):
    Config = SearchedConfig
