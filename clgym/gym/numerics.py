"""Options of a run that change its speed and the last digits of its result."""

from pydantic import ValidationError

from clgym.errors import BadConfig
from clgym.gym.request import Request
from clgym.messages import Numerics

__all__ = ["numerics_of"]


def numerics_of(request: Request, adapts: bool) -> Numerics:
    """Check and return the options of a request.

    Args:
        request: The request.
        adapts: Whether the stream is an adaptation stream, which determines the batch size.

    Raises:
        BadConfig: An option cannot be used here.
    """
    on_gpu = request.device.partition(":")[0] == "cuda"
    if request.arithmetic == "tf32" and not on_gpu:
        raise BadConfig(
            expected="a GPU for --arithmetic tf32",
            found=f"the device {request.device}",
            fix="Give --device cuda, or --arithmetic bf16, which works on a CPU, too",
        )
    if request.compile and request.engine == "process" and request.sandbox != "none":
        raise BadConfig(
            expected="no sandbox with --compile, which starts a compiler and writes files",
            found=f"--sandbox {request.sandbox}",
            fix="Give --sandbox none, or leave out --compile",
        )
    if request.eval_batch is not None and (adapts or request.eval_batch < 1):
        raise BadConfig(
            expected="--eval-batch of at least 1, on a stream that trains and then tests",
            found="an adaptation stream" if adapts else str(request.eval_batch),
            fix="Give the scenario's --batch-size" if adapts else "Give 1 or more",
        )
    try:
        return Numerics(
            arithmetic=request.arithmetic,
            channels_last=request.channels_last,
            compile=request.compile,
            optimizer_kernel=request.optimizer_kernel,
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        raise BadConfig(
            expected=f"an option {name} that exists: {wrong['msg']}",
            found=repr(wrong["input"]),
            fix="Choose one of the values that `clgym run --help` names",
        ) from error
