"""Options for where runs are executed; they change no result."""

import argparse
import json
from typing import TYPE_CHECKING

from clgym.cli._parser import BadUsage, Several, add_data_root_option, add_plugin_option
from clgym.errors import BadConfig

if TYPE_CHECKING:
    from clgym.engines.pool import PoolSpec

__all__ = ["add_pool_flags", "add_sandbox_flag", "add_workers", "pool_of", "workers_of"]


def add_pool_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group("execution (these options change no result)")
    add_workers(group, "Number of parallel runs. (default: one per device)")
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


def add_workers(group: argparse._ActionsContainer, words: str) -> None:
    """Add the options for the number of parallel runs; ``words`` is the help of the first."""
    group.add_argument("--workers", type=int, metavar="N", help=words)
    group.add_argument(
        "--workers-per-device",
        type=int,
        metavar="N",
        help="Number of parallel runs on each device, in place of --workers: several small ones "
        "share a GPU. A run that runs out of memory there fails.",
    )


def workers_of(values: argparse.Namespace, devices: int) -> int:
    """Number of parallel runs on some number of devices.

    Raises:
        BadUsage: Two options state the number, or there would be no run on a device.
        BadConfig: The engine chooses the device itself.
    """
    each = values.workers_per_device
    if each is None:
        return devices if values.workers is None else values.workers
    if each < 1 or values.workers is not None:
        raise BadUsage(
            expected="--workers-per-device of at least 1, without --workers",
            found=f"{each}" if values.workers is None else f"--workers {values.workers} as well",
            fix="Give one of the two options; --workers-per-device 2 with two devices is "
            "--workers 4",
        )
    if values.engine in ("ray", "slurm"):
        raise BadConfig(
            expected="an engine that knows the devices, for --workers-per-device",
            found=f"--engine {values.engine}, whose cluster gives them out",
            fix="Give --workers; with ray also --engine-option gpus=0.5 for two runs on a GPU",
        )
    return each * devices


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
    return PoolSpec(values.engine, workers_of(values, len(devices)), devices, options)
