"""Options for speed: what they do to a network, what they are refused for, what a record says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from clgym.board.reading.entries import run_flags
from clgym.cli._again import rerun
from clgym.errors import BadConfig, ClgymError, Incompatible
from clgym.gym.numerics import numerics_of
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.assembly import make_strategy
from clgym.learner.numerics import NumericMode
from clgym.learner.oversight import Oversight
from clgym.messages import Numerics
from clgym.results.grouping import method_of
from clgym.strategy import Batch, Memory, StreamInfo

CPU = torch.device("cpu")


def steps(network: nn.Linear, images: torch.Tensor) -> torch.Tensor:
    """Two steps of gradient descent; the weights afterwards."""
    for _ in range(2):
        network.zero_grad()
        network(images).float().pow(2).sum().backward()
        with torch.no_grad():
            for value in network.parameters():
                value -= 0.1 * value.grad  # type: ignore[operator]
    return network.weight.detach().clone()


def test_bf16_sees_the_weights_of_the_present_step() -> None:
    """Autocast keeps cast weights for as long as it lasts: a whole experience, here."""
    images = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = nn.Linear(4, 2)
    first = network.weight.detach().clone()
    with NumericMode(Numerics(arithmetic="bf16"), CPU).active():
        assert network(images).dtype == torch.bfloat16
        found = steps(network, images)
    torch.manual_seed(0)
    expected = steps(nn.Linear(4, 2), images)
    assert (expected - first).abs().max() > 0.1
    assert torch.allclose(found, expected, atol=0.05)
    assert network(images).dtype == torch.float32


def test_convolutions_get_images_whose_channels_lie_together() -> None:
    images, network = torch.rand(2, 3, 8, 8), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    plain = network(images)
    with NumericMode(Numerics(channels_last=True), CPU).active():
        made = network(images)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous() and network(images).is_contiguous()
    assert torch.allclose(made, plain, atol=1e-5)
    assert next(network.parameters()).is_contiguous()  # states are written as ever


def naive(network: str, name: str = "naive") -> Any:
    strategy = make_strategy(name, {"network": network})
    mean, std = (0.5,) * 3, (0.25,) * 3
    strategy.setup(StreamInfo((3, 8, 8), "class-incremental", CPU, 0, mean, std, memory=Memory(0)))
    return strategy


def test_channels_last_is_refused_without_convolutions() -> None:
    mode = NumericMode(Numerics(channels_last=True), CPU)
    mode.take(naive("slim-resnet18"))
    with pytest.raises(Incompatible, match="convolutions"):
        mode.take(naive("mlp"))


def test_avalanches_own_strategies_are_not_compiled() -> None:
    """Their states contain no compiled code, so that networks from a state would run without."""
    with pytest.raises(Incompatible, match="one of Avalanche"):
        NumericMode(Numerics(compile=True), CPU).take(naive("mlp", "avalanche:EWC"))


def test_whole_networks_are_compiled_and_keep_the_names_of_their_weights() -> None:
    strategy = naive("mlp")
    names = list(strategy.network.state_dict())
    NumericMode(Numerics(compile=True), CPU).take(strategy)
    assert strategy.network._compiled_call_impl is not None
    assert all(part._compiled_call_impl is None for part in strategy.network.children())
    assert list(strategy.network.state_dict()) == names


def test_the_observation_of_a_prediction_is_not_compiled() -> None:
    """The compiler would follow Python code that notes each operation, which is no network's."""
    graphs: list[Any] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    strategy, batch = naive("mlp"), Batch(torch.rand(4, 3, 8, 8))
    strategy.network.compile(backend=keep)
    asked: Any = SimpleNamespace(numerics=Numerics(compile=True), adaptation=None)
    oversight = Oversight(strategy, strategy.info, asked, 1 / 255)
    frames = torch._dynamo.utils.counters["frames"]  # pyright: ignore[reportPrivateUsage]
    frames.clear()
    with torch.no_grad():
        first = oversight.predict(batch)
        assert not frames and not graphs
        assert torch.allclose(oversight.predict(batch), first)
    assert graphs  # the second prediction is not observed
    assert oversight.flops_per_image


@pytest.mark.parametrize(
    ("options", "adapts", "words"),
    [
        ({"arithmetic": "tf32"}, False, "a GPU"),
        ({"compile": True}, False, "no sandbox"),
        ({"eval_batch": 0}, False, "at least 1"),
        ({"eval_batch": 8}, True, "an adaptation stream"),
    ],
)
def test_options_that_cannot_work_are_refused(
    options: dict[str, Any], adapts: bool, words: str
) -> None:
    with pytest.raises(BadConfig, match=words):
        numerics_of(Request("naive", "split-digits", **options), adapts)


def test_a_run_states_its_options_and_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[int] = set()
    predict = Oversight.predict

    def noted(self: Oversight, batch: Any) -> torch.Tensor:
        sizes.add(len(batch))
        return predict(self, batch)

    monkeypatch.setattr(Oversight, "predict", noted)
    request = Request("nmc", "split-digits", engine="inline", threads=1, eval_batch=50)
    asked = Request(**{**vars(request), "out": tmp_path / "run"})
    record = run(asked)
    assert max(sizes) == 50
    assert record.result.numerics is not None
    assert record.result.numerics.words() == ["--eval-batch", "50"]
    plain = record.result.model_copy(update={"numerics": None})
    assert method_of(plain) != method_of(record.result)  # never seeds of one mean
    assert "run with --eval-batch 50" in run_flags([record])
    assert "--eval-batch 50" in rerun(record)
    usual = resolve(Request(**{**vars(asked), "eval_batch": None}))
    assert usual.numeric_facts.words() == []
    assert usual.key != resolve(asked).key
    with pytest.raises(ClgymError, match="another"):
        run(Request(**{**vars(asked), "eval_batch": None}))
