"""Describe a strategy before a run: its options, its needs, and its pretrained weights."""

from dataclasses import replace
from pathlib import Path

import torch

from clgym import registry
from clgym.errors import Incompatible
from clgym.learner.assembly import (
    config_fields,
    known_failures,
    make_strategy,
    plugin_entry,
    strategy_class,
)
from clgym.learner.provenance import all_reads, files_of
from clgym.messages import (
    DescribeNeeds,
    DescribeOptions,
    DescribeReads,
    Needs,
    NeedsDescribed,
    OptionsDescribed,
    ReadsDescribed,
)
from clgym.models.backbones import identify
from clgym.models.places import places_looked_at
from clgym.strategy import Strategy

__all__ = ["describe_needs", "describe_options", "describe_reads", "usable_device"]


def describe_options(request: DescribeOptions) -> OptionsDescribed:
    """Options and known failures of a strategy and of those that it wraps."""
    cls = strategy_class(request.strategy, request.plugins)
    return OptionsDescribed(
        fields=config_fields(cls, request.given, request.plugins),
        known_failures=known_failures(cls, request.given, request.plugins),
        read_files=files_of(plugin_entry(request.strategy, request.plugins), importing=True),
    )


def describe_needs(request: DescribeNeeds) -> NeedsDescribed:
    """Needs of a strategy, and the identity of its backbone's weights.

    Raises:
        Incompatible: The requested device cannot be used.
    """
    usable_device(request.device)
    strategy = make_strategy(request.strategy, request.config, request.plugins)
    needs = _with_forgetting(strategy)
    if needs.backbone is None:
        return NeedsDescribed(needs=needs, backbone=None, renamed={})
    identity = identify(needs.backbone, request.data_root)
    # The record names weights by their hash, although the user may have given a path.
    given = request.config.items()
    renamed = {key: identity.name for key, value in given if value == needs.backbone.name}
    return NeedsDescribed(needs=needs, backbone=identity, renamed=renamed)


def describe_reads(request: DescribeReads) -> ReadsDescribed:
    """Files that influenced the descriptions so far: code, and places of weights."""
    known = registry.entries("strategies", [Path(plugin) for plugin in request.plugins])
    return ReadsDescribed(files=all_reads(known.values()), places=places_looked_at())


def _with_forgetting(strategy: Strategy) -> Needs:
    """A strategy's needs, with deletion streams among its scenario types if it can forget.

    A wrapper around such a strategy has the same needs, but cannot forget itself.
    """
    needs = strategy.needs
    forgets = type(strategy).forget is not Strategy.forget
    if not forgets or "class-incremental" not in needs.settings:
        return needs
    return replace(needs, settings=(*needs.settings, "deletion"))


def usable_device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        Incompatible: torch cannot use the device here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise Incompatible(
            expected="a device that torch can use here",
            found=f"{name!r} ({str(error).partition('. ')[0]})",
            fix="Give --device cpu, or one that `torch.cuda.is_available()` knows",
        ) from None
