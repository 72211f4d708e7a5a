"""A stream of its own."""

from clgym.adaptation.stream import AdaptationConfig, AdaptationScenario


class OldStream(AdaptationScenario):
    Config = AdaptationConfig
