"""Options of a run that change its speed, and the last digits or the extent of its result."""

from pydantic import ValidationError

from clgym.errors import BadConfig, Incompatible
from clgym.gym.request import Request
from clgym.messages import Needs, Numerics
from clgym.results.numerics import NumericFacts
from clgym.scenario import Stream, kind_of

__all__ = ["check_budget", "check_tests", "numeric_facts", "numerics_of"]


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


def numeric_facts(request: Request, experiences: int) -> NumericFacts:
    """Block of the record about the options of a request, on a stream of some experiences.

    Equal choices of tests have one name: every 5th of five experiences is ``last``, and of a single
    experience none is left out.
    """
    every = request.evaluate_every
    if every != "last" and every >= experiences:
        every = "last"
    if experiences == 1:
        every = 1
    return NumericFacts(
        arithmetic=request.arithmetic,
        channels_last=request.channels_last,
        compile=request.compile,
        optimizer_kernel=request.optimizer_kernel,
        eval_batch=request.eval_batch,
        evaluate_every=None if every == 1 else every,
    )


def check_tests(request: Request, stream: Stream) -> None:
    """Check that a request may leave out tests, if it does.

    Raises:
        BadConfig: The number of experiences between tests is not valid, or the run continues
            another one.
        Incompatible: The stream measures more than the accuracies after its experiences.
    """
    every = request.evaluate_every
    if every == "last" or (type(every) is int and every > 1):
        _check_plain(request, stream)
    elif type(every) is not int or every < 1:
        raise BadConfig(
            expected="--evaluate-every of at least 1, or last",
            found=repr(every),
            fix="Give a number of experiences, or last",
        )


def check_budget(request: Request, needs: Needs) -> None:
    """Check that the bytes of a strategy that declares a budget are counted everywhere.

    Raises:
        Incompatible: They are counted in tests, of which the request leaves some out.
    """
    if request.evaluate_every != 1 and needs.memory_bytes is not None:
        raise Incompatible(
            expected="tests after every experience for a strategy with a budget of bytes, since "
            "its bytes are counted in tests",
            found=f"--evaluate-every {request.evaluate_every} and a budget of "
            f"{needs.memory_bytes:,} bytes",
            fix="Leave out --evaluate-every",
        )


def _check_plain(request: Request, stream: Stream) -> None:
    """Check that only accuracies after experiences are lost if some are not tested."""
    if request.after is not None:
        raise BadConfig(
            expected="tests after every experience in a run that continues another one",
            found=f"--evaluate-every {request.evaluate_every}",
            fix="Leave out --evaluate-every",
        )
    kind = kind_of(stream)
    if not kind.endswith("-incremental") or stream.single_pass or stream.anytime:
        raise Incompatible(
            expected=f"a stream of labelled experiences that may be read more than once, for "
            f"--evaluate-every {request.evaluate_every}",
            found=f"{stream.name}, which is "
            + (f"{kind} and {_order_of(stream)}" if kind.endswith("-incremental") else kind),
            fix="Leave out --evaluate-every: the measures of this stream need all tests",
        )


def _order_of(stream: Stream) -> str:
    return "single-pass" if stream.single_pass else "tested inside its experiences"
