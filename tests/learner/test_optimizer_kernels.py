"""Kernels of optimizers: which optimizers they reach, what is refused, what a record says."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from clgym.cli import main
from clgym.errors import BadConfig, Incompatible
from clgym.gym.numerics import numerics_of
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.numerics import NumericMode
from clgym.messages import Numerics
from clgym.results.numerics import NumericFacts

Seen = list[tuple[int, object, object]]
"""Of every step that an optimizer took: the optimizer's id, and its options foreach and fused."""


@pytest.fixture
def seen() -> Iterator[Seen]:
    steps: Seen = []

    def note(optimizer: Optimizer, args: object, kwargs: object) -> None:
        for group in optimizer.param_groups:
            steps.append((id(optimizer), group.get("foreach"), group.get("fused")))

    hook = register_optimizer_step_post_hook(note)
    yield steps
    hook.remove()


def weight(*gradient: float) -> nn.Parameter:
    value = nn.Parameter(torch.ones(max(len(gradient), 1)))
    value.grad = torch.tensor(gradient) if gradient else None
    return value


def mode(kernel: Any) -> NumericMode:
    return NumericMode(Numerics(optimizer_kernel=kernel), torch.device("cpu"))


def steps_of(make: Callable[..., Optimizer], kernel: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A parameter and its gradients after three steps."""
    value = weight(*(0.2 * i - 1 for i in range(11)))
    optimizer = make([value])
    with mode(kernel).active():
        for _ in range(3):
            optimizer.step()
    assert value.grad is not None
    return value.detach(), value.grad


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [("single", (False, False)), ("foreach", (True, False)), ("fused", (False, True))],
)
def test_every_optimizer_gets_the_kernel_whenever_it_was_made(
    kernel: Any, expected: tuple[bool, bool], seen: Seen
) -> None:
    early, chosen = torch.optim.Adam([weight(1.0)]), torch.optim.SGD([weight(1.0)], foreach=True)
    early.add_param_group({"params": [weight(2.0)]})
    state = early.state_dict()
    with mode(kernel).active():
        torch.optim.AdamW([weight(1.0)]).step()
        early.step()
        early.load_state_dict(state)  # whose options are those before the first step
        early.step()
        chosen.step()
    assert {found[1:] for found in seen} == {expected}
    assert len(seen) == 6
    after = torch.optim.SGD([weight(1.0)])
    after.step()
    assert seen[-1][1:] == (None, None)


MAKERS: dict[str, Callable[..., Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
}


PAIRS = [(name, kernel) for name in MAKERS for kernel in ("foreach", "fused")]
PAIRS.remove(("nesterov", "foreach"))  # which is refused, see below


@pytest.mark.parametrize(("name", "kernel"), PAIRS)
def test_kernels_take_the_same_steps_and_leave_the_gradients(name: str, kernel: str) -> None:
    expected, gradients = steps_of(MAKERS[name], "auto")
    found, kept = steps_of(MAKERS[name], kernel)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(kept, gradients)


def test_a_late_first_gradient_has_the_momentum_of_the_formula() -> None:
    """The fused kernel alone fails if only some parameters have a momentum already."""
    first, late = weight(1.0), weight()
    optimizer = torch.optim.SGD([first, late], 0.1, 0.9)
    with mode("fused").active():
        optimizer.step()
        late.grad = torch.ones(1)
        optimizer.step()
        optimizer.step()
    # steps of 1, 1.9, 2.71 and of 1, 1.9
    assert first.item() == pytest.approx(1 - 0.1 * 5.61)
    assert late.item() == pytest.approx(1 - 0.1 * 2.9)


def on_another_device() -> Optimizer:
    """Adagrad makes its counters at once, and on the CPU unless it is fused from the start."""
    value = nn.Parameter(torch.empty(1, device="meta"))
    value.grad = torch.empty(1, device="meta")
    return torch.optim.Adagrad([value])


def dampened() -> Optimizer:
    late = weight()
    optimizer = torch.optim.SGD([weight(1.0), late], 0.1, 0.9, dampening=0.5)
    optimizer.step()
    late.grad = torch.ones(1)
    return optimizer


@pytest.mark.parametrize(
    ("make", "kernel", "words"),
    [
        (lambda: torch.optim.RMSprop([weight(1.0)]), "fused", "RMSprop, which has none"),
        (lambda: torch.optim.SparseAdam([weight(1.0)]), "foreach", "SparseAdam, which has none"),
        (lambda: torch.optim.Adam([weight(1.0)], differentiable=True), "foreach", "differentiable"),
        (lambda: torch.optim.SGD([weight(1.0)], 0.1, 0.9, nesterov=True), "foreach", "Nesterov"),
        (on_another_device, "fused", "another device"),
        (dampened, "fused", "first gradients"),
    ],
)
def test_optimizers_without_the_kernel_are_refused_at_every_step(
    make: Callable[[], Optimizer], kernel: str, words: str
) -> None:
    optimizer = make()
    with mode(kernel).active():
        for _ in range(2):
            with pytest.raises(Incompatible, match=words):
                optimizer.step()


def small(strategy: str, out: Path, **options: Any) -> Request:
    """The first two experiences, a few steps each."""
    config = {} if strategy == "nmc" else {"batch_size": 128}
    return Request(
        strategy,
        "split-digits",
        strategy_config=config,
        engine="inline",
        threads=1,
        part=(0, 2),
        out=out,
        **options,
    )


def test_a_run_with_a_kernel_uses_it_in_all_steps_and_states_it(tmp_path: Path, seen: Seen) -> None:
    record = run(small("naive", tmp_path / "fused", optimizer_kernel="fused"))
    assert len({number for number, *_ in seen}) == 2  # an optimizer for each experience
    assert {found[1:] for found in seen} == {(False, True)}
    assert record.result.numerics is not None
    assert record.result.numerics.words() == ["--optimizer-kernel", "fused"]
    stored = (tmp_path / "fused/record.json").read_text()
    assert '"optimizer_kernel": "fused"' in stored


def test_a_strategy_without_optimizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match="no step of an optimizer"):
        run(small("nmc", tmp_path / "nmc", optimizer_kernel="foreach"))


def test_an_unknown_kernel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    request = Request("naive", "split-digits", optimizer_kernel="quick")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="quick"):
        numerics_of(request, False)
    assert main(["run", "naive", "split-digits", "--optimizer-kernel", "quick"]) == 2
    assert "quick" in capsys.readouterr().err


def test_records_without_the_option_are_written_as_before() -> None:
    """Hashes of results cover all fields of this block."""
    facts = {"arithmetic": "bf16", "channels_last": False, "compile": False, "eval_batch": None}
    assert NumericFacts(arithmetic="bf16").model_dump(mode="json") == facts
    assert NumericFacts.model_validate(facts).optimizer_kernel == "auto"
    both = NumericFacts(optimizer_kernel="single", evaluate_every=2)
    assert NumericFacts.model_validate(both.model_dump()) == both
    assert both.words() == ["--optimizer-kernel", "single", "--evaluate-every", "2"]
    assert NumericFacts().model_dump().keys() == facts.keys()
