"""Options of a run for speed, which change the last digits of its result or leave out tests."""

import argparse
from typing import Literal

__all__ = ["add_numerics"]


def add_numerics(run: argparse._ArgumentGroup) -> None:
    """Add the options; the record states them, and runs that differ in them are different runs."""
    run.add_argument(
        "--arithmetic",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="Arithmetic of training and prediction: single precision, TF32 (GPUs only), or "
        "autocast to bfloat16. (default: fp32)",
    )
    run.add_argument(
        "--channels-last",
        action="store_true",
        help="Use the channels-last memory format in convolutions.",
    )
    run.add_argument(
        "--compile",
        action="store_true",
        help="Compile the networks by torch.compile; needs --sandbox none.",
    )
    run.add_argument(
        "--optimizer-kernel",
        choices=("auto", "single", "foreach", "fused"),
        default="auto",
        help="How torch's optimizers take a step: parameter by parameter (single), many parameters "
        "in one call (foreach), or the whole step in one kernel (fused; SGD, Adam, AdamW and "
        "Adagrad); auto leaves the choice to torch. (default: auto)",
    )
    run.add_argument(
        "--eval-batch",
        type=int,
        metavar="N",
        help="Number of test images in a batch. (default: 256)",
    )
    run.add_argument(
        "--evaluate-every",
        type=_number_or_last,
        default=1,
        metavar="N|last",
        help="Test after every N-th experience and after the last one; last: only after the last "
        "one. Measures over all experiences are then missing. (default: 1)",
    )


def _number_or_last(word: str) -> int | Literal["last"]:
    try:
        return "last" if word == "last" else int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is neither a number of experiences nor last"
        ) from None
