"""Imports a class by the name that it had in clgym 0.1."""

from clgym.data.cards import Card
from clgym.strategies.nmc import NMC


class Stale(NMC):
    CARD = Card
