"""Stands on another strategy."""

from dataclasses import dataclass

from clgym.config import Wrapped
from clgym.strategy import Config, Strategy


@dataclass(frozen=True)
class Options(Config):
    base: Wrapped = Wrapped("nmc")
    """What it stands on."""


class Over(Strategy):
    Config = Options
