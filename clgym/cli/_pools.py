"""Flags that say where runs are carried out; they change no result."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import BadUsage

if TYPE_CHECKING:
    from clgym.engines.pool import PoolSpec

__all__ = ["add_pool_flags", "add_sandbox_flag", "pool_of"]


def add_pool_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    group = parser.add_argument_group("where runs are carried out (they change no result)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="Runs at a time. (default: one a device)"
    )
    group.add_argument(
        "--devices", default="cpu", metavar="LIST", help="Given out in turn: cuda:0,cuda:1"
    )
    group.add_argument(
        "--engine",
        choices=("process", "inline", "ray", "slurm"),
        default="process",
        help="(default process)",
    )
    group.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="address=HOST:PORT of a ray cluster; submitit's parameters for slurm.",
    )
    add_sandbox_flag(group)
    group.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE")
    group.add_argument("--data-root", type=Path, metavar="DIR", help="(default: CLGYM_DATA)")
    group.add_argument("--json", action="store_true", help="Print the outcome as JSON alone.")


def add_sandbox_flag(group: argparse._ActionsContainer) -> None:
    """Add what shuts the strategy's process in."""
    group.add_argument(
        "--sandbox",
        choices=("auto", "landlock", "none"),
        default="auto",
        help="What the strategy's process may open: Python, its code, its weights and the images "
        "that are due (Linux Landlock; auto: where the system has it), or anything. (default auto)",
    )


def pool_of(values: argparse.Namespace) -> "PoolSpec":
    """What the flags say."""
    from clgym.engines.pool import PoolSpec

    options = {}
    for word in values.engine_option:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadUsage(
                expected="--engine-option NAME=VALUE",
                found=repr(word),
                fix="Write address=auto",
            )
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    devices = tuple(values.devices.split(","))
    workers = len(devices) if values.workers is None else values.workers
    return PoolSpec(values.engine, workers, devices, options)
