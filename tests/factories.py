"""What the tests of several rooms build: plugins in a folder, facts of a stream, results."""

import contextlib
import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clgym.gym.request import Request
    from clgym.results.record import Result
    from clgym.strategy import StreamInfo

PLUGINS = Path(__file__).with_name("plugins")


def copy_plugin(name: str, folder: Path, **constants: object) -> Path:
    """Copy `tests/plugins/NAME.py` into a folder and set constants of its module there.

    Args:
        name: File name without suffix, which is the plugin's name, too.
        folder: Where the copy goes; it is created.
        constants: New values of what the file defines as ``CONSTANT = value`` on one line.

    Returns:
        The path of the copy. Tests run copies: no run reads or marks a file of the checkout.
    """
    text = (PLUGINS / f"{name}.py").read_text()
    for constant, value in constants.items():
        plain = str(value) if isinstance(value, Path) else value
        line = f"{constant} = {plain!r}"
        text, count = re.subn(rf"(?m)^{constant} = .*$", lambda _, line=line: line, text)
        assert count == 1, f"{name}.py defines {constant} on {count} lines"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{name}.py"
    copy.write_text(text)
    return copy


def load_plugin(name: str) -> ModuleType:
    """Import `tests/plugins/NAME.py`, for the tables that it holds."""
    spec = importlib.util.spec_from_file_location(f"plugin_{name}", PLUGINS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stream_info(
    shape: tuple[int, ...], setting: str = "class-incremental", **facts: Any
) -> "StreamInfo":
    """The facts of a stream that a strategy is set up with.

    Args:
        shape: Channels, height and width of the images.
        setting: Scenario type, or ``adaptation``.
        facts: Other fields. Without them: the CPU, seed 0, pixels that are not normalised.
    """
    import torch  # here: most tests do without

    from clgym.strategy import StreamInfo

    plain = {"mean": (0.0,) * shape[0], "std": (1.0,) * shape[0], "seed": 0}
    return StreamInfo(shape, setting, torch.device("cpu"), **{**plain, **facts})  # type: ignore[arg-type]


def interrupt(folder: Path, scenario: str, **more: Any) -> "tuple[Request, Path, Result]":
    """Make a run whose strategy fails inside the third experience, and the same run undisturbed.

    Args:
        folder: Where the plugin and both runs go.
        scenario: Name of the scenario.
        more: Further fields of the request.

    Returns:
        The request without its folder, the folder that the failure left, and the whole result.
    """
    from clgym.errors import StrategyFailed
    from clgym.gym.request import Request
    from clgym.gym.run import run

    flag = folder / "flag"
    plugin = copy_plugin("fails", folder, FLAG=flag)
    request = Request(
        "fails",
        scenario,
        strategy_config={"network": "mlp"},
        plugins=(plugin,),
        threads=1,
        engine="inline",
        checkpoint_minutes=1e-6,
        **more,
    )
    whole = run(replace(request, out=folder / "whole")).result
    flag.touch()
    with contextlib.suppress(StrategyFailed):
        run(replace(request, out=folder / "cut"))
        raise AssertionError("the strategy did not fail")
    flag.unlink()
    return request, folder / "cut", whole
