"""Find everything that prevents a request from running on this machine."""

import contextlib
from collections.abc import Generator

from clgym import registry
from clgym.data.locate import locate
from clgym.engines import Channel
from clgym.errors import ClgymError
from clgym.gym.description import ask_needs, ask_options, open_learner
from clgym.gym.plan import resolve, strategy_values
from clgym.gym.request import Request, make_scenario

__all__ = ["obstacles"]


def obstacles(request: Request, channel: Channel | None = None) -> list[ClgymError]:
    """Return everything that prevents a request from running here; `resolve` stops at the first.

    Args:
        request: The request.
        channel: Channel for questions about the strategy; None opens one.

    Returns:
        Errors about sources, weights and the device, each once; empty if `resolve` succeeds.
    """
    found: list[ClgymError] = []
    asked = channel or open_learner(request)
    try:
        entry = registry.find("strategies", request.strategy, request.plugins)
        scenario = make_scenario(request)
        with _noting(found):
            for name in scenario.source_names():
                with _noting(found):
                    locate(name, request.data_root, None)
        with _noting(found):
            description = ask_options(entry, request.plugins, asked, request.strategy_config)
            values = strategy_values(description, scenario, request)
            for device in ("cpu", request.device):  # weights are searched even without the device
                with _noting(found):
                    ask_needs(entry.name, request.plugins, asked, values, device, request.data_root)
        if not found:
            with _noting(found):
                resolve(request, asked)
    except ClgymError as error:
        found.append(error)
    finally:
        if channel is None:
            asked.close()
    return list({str(error): error for error in found}.values())


@contextlib.contextmanager
def _noting(found: list[ClgymError]) -> Generator[None, None, None]:
    """Collect an error and continue."""
    try:
        yield
    except ClgymError as error:
        found.append(error)
