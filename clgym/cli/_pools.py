"""Options for where runs are executed; they change no result."""

import argparse
import json
from typing import TYPE_CHECKING

from clgym.cli._parser import BadUsage, Several, add_data_root_option, add_plugin_option

if TYPE_CHECKING:
    from clgym.engines.pool import PoolSpec

__all__ = ["add_pool_flags", "add_sandbox_flag", "pool_of"]


def add_pool_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group("execution (these options change no result)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="Parallel runs. (default: one per device)"
    )
    group.add_argument(
        "--devices",
        action=Several,
        default=["cpu"],
        metavar="DEVICE",
        help="Devices, assigned to the workers in turn: cuda:0,cuda:1. (default: cpu)",
    )
    group.add_argument(
        "--engine",
        choices=("process", "inline", "ray", "slurm"),
        default="process",
        help="Engine that executes the runs. (default: process)",
    )
    group.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Option of the engine: address=HOST:PORT of a ray cluster, or a parameter of submitit "
        "for slurm; may be repeated.",
    )
    add_sandbox_flag(group)
    add_plugin_option(group)
    add_data_root_option(group)
    group.add_argument("--json", action="store_true", help="Print only the outcome, as JSON.")


def add_sandbox_flag(group: argparse._ActionsContainer) -> None:
    """Add the option that chooses the sandbox of the strategy's process."""
    group.add_argument(
        "--sandbox",
        choices=("auto", "landlock", "bubblewrap", "none"),
        default="auto",
        help="Sandbox of the strategy's process, which lets it open only Python, its code, its "
        "weights and the current images; auto: landlock if Linux supports it, else bubblewrap "
        "if it is installed, else none. (default: auto)",
    )


def pool_of(values: argparse.Namespace) -> "PoolSpec":
    """The pool that the options describe."""
    from clgym.engines.pool import PoolSpec

    options = {}
    for word in values.engine_option:
        name, equals, text = word.partition("=")
        if not equals:
            raise BadUsage(
                expected="--engine-option NAME=VALUE",
                found=repr(word),
                fix="Write it as in address=auto",
            )
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    devices = tuple(values.devices)
    workers = len(devices) if values.workers is None else values.workers
    return PoolSpec(values.engine, workers, devices, options)
