"""A strategy in an Avalanche script gives the gym's accuracies, in every scenario type."""

from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin

import clgym
from clgym.avalanche import as_template, benchmarks
from clgym.errors import BadConfig, Incompatible
from clgym.gym.plan import resolve
from clgym.gym.request import Request

STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "class-incremental": ("split-digits", {}),
    "task-incremental": ("task-digits", {}),
    "domain-incremental": ("domain-incremental", {"source": "digits", "domains": 3}),
}
SETTINGS = (
    *("class-incremental", "task-incremental"),
    pytest.param("domain-incremental", marks=pytest.mark.slow),
)
STRATEGIES: dict[str, dict[str, Any]] = {
    "nmc": {},
    "derpp": {"memory_size": 60, "augment": "crop-flip", "epochs": 2},
    "avalanche:ER_ACE": {"memory_size": 60, "batch_size": 10, "lr": 0.1, "momentum": 0.9},
    "joint": {},
}


def in_a_script(template: Any, benchmark: Any, after: Any) -> list[list[float]]:
    """Accuracy on the experiences that are measured after each, by Avalanche's metrics."""
    rows = []
    for index, experience in enumerate(benchmark.train_stream):
        template.train(experience)
        measured = after(index)
        template.evaluator.reset_last_metrics()
        found = template.eval([benchmark.test_stream[j] for j in measured])
        rows.append([v for k, v in found.items() if k.startswith("Top1_Acc_Exp/eval")])
    return rows


def metrics() -> Any:
    return EvaluationPlugin(accuracy_metrics(experience=True), loggers=[])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_script_gives_the_accuracies_of_the_gym(name: str, setting: str) -> None:
    """To the last digit: counts of the same images, so that only the division may round."""
    scenario, options = STREAMS[setting]
    config = STRATEGIES[name]
    source = {"source": options["source"]} if "source" in options else {}
    more = {key: value for key, value in options.items() if key != "source"}
    record = clgym.run(
        name, scenario, config=config, scenario_config=more, engine="inline", threads=1, **source
    )
    stream = clgym.make_scenario(scenario, **options)
    template = as_template(clgym.make_strategy(name, **config), stream=stream, evaluator=metrics())
    found = in_a_script(template, stream.benchmark(), stream.measured_after)
    known = [[v for v in row if v is not None] for row in record.result.accuracy_matrix]
    for ours, theirs in zip(found, known, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_a_single_pass_stream_stays_one() -> None:
    stream = clgym.make_scenario("online", source="digits", increments=[5, 5])
    template = as_template(
        clgym.make_strategy("naive", epochs=2), stream=stream, evaluator=metrics()
    )
    with pytest.raises(BadConfig, match="single-pass"):
        template.train(stream.benchmark().train_stream[0])


def test_answers_to_a_task_name_its_own_classes_only() -> None:
    """Whatever the strategy says of other tasks' classes; unknown tasks are not asked about."""
    stream = clgym.make_scenario("task-digits")
    benchmark = stream.benchmark()
    template = as_template(clgym.make_strategy("nmc"), stream=stream, evaluator=metrics())
    template.train(benchmark.train_stream[0])
    template.train(benchmark.train_stream[1])
    for experience in benchmark.test_stream[:3]:
        task = experience.current_experience
        images = torch.stack([sample[0] for sample in experience.dataset])
        column = torch.tensor([sample[1] for sample in experience.dataset])
        mbatch: Any = [images, column, torch.full((len(images),), task)]
        template.mbatch = mbatch
        with torch.no_grad():
            predicted = set(template.forward().argmax(1).tolist())
        own = set(stream.steps[task].classes) if task < 2 else {0}
        assert predicted <= own


@pytest.mark.parametrize("extra", [{"mean": (0.5,)}, {"setting": "task-incremental"}])
def test_what_a_stream_states_cannot_be_given_again(extra: dict[str, Any]) -> None:
    stream = clgym.make_scenario("split-digits")
    with pytest.raises(BadConfig, match="stream= alone"):
        as_template(clgym.make_strategy("nmc"), stream=stream, **extra)


def test_statistics_are_never_guessed() -> None:
    with pytest.raises(BadConfig, match="mean= and std="):
        as_template(clgym.make_strategy("avalanche:ER_ACE", memory_size=60))


@pytest.mark.parametrize("fault", ["order", "transform", "labels"])
def test_other_data_than_the_plans_are_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = clgym.make_scenario("split-digits")
    benchmark = clgym.make_scenario("split-digits").benchmark()
    if fault == "labels":
        benchmark = clgym.make_scenario("split-digits", order_seed=1).benchmark()
    template = as_template(clgym.make_strategy("nmc"), stream=stream, evaluator=metrics())
    experience = benchmark.train_stream[1 if fault == "order" else 0]
    if fault == "transform":
        stored = benchmarks._StepRows.__getitem__
        patch = lambda rows, row: (stored(rows, row)[0] / 2, stored(rows, row)[1])  # noqa: E731
        monkeypatch.setattr(benchmarks._StepRows, "__getitem__", patch)
    with pytest.raises(Incompatible, match="experiences of split-digits"):
        template.train(experience)


def test_a_strategy_that_cannot_is_refused() -> None:
    strategy = clgym.make_strategy("avalanche:ICaRL")
    with pytest.raises(Incompatible, match="domain-incremental"):
        as_template(strategy, setting="domain-incremental", mean=(), std=())
    stream = clgym.make_scenario("domain-incremental", source="digits", domains=2)
    with pytest.raises(Incompatible, match="domain-incremental"):
        as_template(strategy, stream=stream)
    shifts = clgym.make_scenario("corruptions", source="digits")
    with pytest.raises(Incompatible, match="adaptation"):
        as_template(clgym.make_strategy("tent"), stream=shifts)


def test_grey_and_colour_sources_come_alike_in_a_benchmark(tmp_path: Any) -> None:
    """Grey images are repeated and ranges are brought together, as the gym does it."""
    colours = np.random.RandomState(0).randint(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(40) % 2
    path = tmp_path / "colour.npz"
    np.savez(path, images=colours, labels=labels.astype(str))
    stream = clgym.make_scenario("multi-dataset", source=f"digits[0..4],npz:{path}", resize=8)
    benchmark = stream.benchmark()
    digit = benchmark.train_stream[0].dataset[0][0]
    assert digit.shape == (3, 8, 8) and torch.equal(digit[0], digit[1])
    assert 0.9 < float(digit.max()) <= 1.0  # 16 is white there, 255 in the other source
    template = as_template(clgym.make_strategy("nmc"), stream=stream, evaluator=metrics())
    for experience in benchmark.train_stream:
        template.train(experience)


def test_a_strategy_takes_what_the_preset_gives_as_a_run_does() -> None:
    """The options of a plan, by both ways; own options win."""
    stream = clgym.make_scenario("split-digits")
    request = Request("avalanche:ER_ACE", "split-digits")
    planned = resolve(request).describe().strategy.config
    made = clgym.make_strategy("avalanche:ER_ACE", stream=stream)
    alone = clgym.make_strategy("avalanche:ER_ACE")
    assert made.config.memory_size == planned["memory_size"] != alone.config.memory_size
    assert made.config.network == planned["network"]
    own = clgym.make_strategy("avalanche:ER_ACE", stream=stream, memory_size=7)
    assert own.config.memory_size == 7
    around = clgym.make_strategy("lr-schedule", stream=stream, base="replay")
    assert around.base.config.memory_size == planned["memory_size"]
