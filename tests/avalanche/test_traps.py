"""Each trap of Avalanche 0.6 that the seam covers: the day one is gone, its cure can go too."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.utils.flat_data import ConstantSequence, FlatData
from avalanche.training import BiC, CoPE, Naive
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.plugins.gss_greedy import GSS_greedyPlugin
from avalanche.training.plugins.mas import MASPlugin
from avalanche.training.utils import ParamData, cycle
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from clgym.avalanche import patches
from clgym.avalanche.adapter import adapt
from clgym.avalanche.experience_view import ExperienceView
from clgym.avalanche.loop import fast


def test_the_timeline_is_a_set(experiences):
    (experience,) = experiences(steps=1)
    dataset = ExperienceView(experience).dataset
    bench: Any = with_classes_timeline(benchmark_from_datasets(train=[dataset]))
    assert isinstance(next(iter(bench.train_stream)).classes_in_this_experience, set)


def test_an_optimizer_given_a_part_gets_the_whole_network(experiences, learner):
    """Ours keeps to what requires a gradient."""
    from clgym.avalanche import SGDStrategy

    (experience,) = experiences(steps=1)
    view = ExperienceView(experience)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 2))
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    part = torch.optim.SGD(model[2].parameters(), 0.1)
    stock = Naive(model=model, optimizer=part, evaluator=EvaluationPlugin(loggers=[]))
    stock.experience = view  # type: ignore[assignment]
    stock.check_model_and_optimizer()
    assert len(part.param_groups[0]["params"]) == 4

    strategy = learner(SGDStrategy)
    strategy.network.backbone.requires_grad_(False)
    frozen = strategy.network.backbone[1].weight.clone()
    strategy.train(experience)
    assert len(strategy.template.optimizer.param_groups[0]["params"]) == 2
    assert torch.equal(strategy.network.backbone[1].weight, frozen)


def test_bic_calls_a_schedule_that_torch_has_changed():
    if "verbose" in inspect.signature(MultiStepLR).parameters:
        pytest.skip("this torch still takes verbose")
    from avalanche.training.plugins import bic

    assert "verbose=False" in inspect.getsource(bic.BiCPlugin.bias_correction_step)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    with pytest.raises(TypeError):
        MultiStepLR(optimizer, [1], verbose=False)  # type: ignore[call-arg]
    patches.apply()
    schedule = bic.MultiStepLR(optimizer, milestones=[1], gamma=0.5, verbose=False)  # type: ignore[call-arg]
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_cope_stops_after_one_batch_by_default(experiences, learner):
    assert inspect.signature(CoPE).parameters["mem_size"].default == 200
    told = []
    (experience,) = experiences(steps=1, report=told.append)
    learner(adapt("CoPE"), batch_size=8).train(experience)
    assert max(event["step"] for event in told) == 6


def test_the_buffer_of_er_aml_can_wait_for_ever():
    loader = torch.utils.data.DataLoader([1, 2, 3], batch_size=4, drop_last=True)  # type: ignore[arg-type]
    assert len(loader) == 0 and inspect.isgenerator(cycle(loader))
    from avalanche.training.supervised import er_aml

    source = inspect.getsource(er_aml.ER_AML._before_training_exp)
    assert "batch_size=self.train_mb_size" in source and "drop_last=True" in source


def test_gss_finds_no_samples_where_a_batch_is_larger_than_its_memory():
    """Avalanche's own method gives no gradients there, of which the greatest is asked for."""
    patches.apply()
    gss = GSS_greedyPlugin(mem_size=8, mem_strength=5, input_size=[36])
    gss.ext_mem_list_current_index = 8
    model = nn.Linear(36, 2)
    dims = [p.numel() for p in model.parameters()]
    strategy: Any = SimpleNamespace(model=model, device="cpu", _criterion=nn.CrossEntropyLoss())
    theirs: Any = GSS_greedyPlugin.get_rand_mem_grads
    assert len(theirs.__wrapped__(gss, strategy, dims, gss_batch_size=16)) == 0
    assert len(gss.get_rand_mem_grads(strategy, dims, gss_batch_size=16)) == 1


def test_mas_treats_a_zero_loss_as_missing():
    patches.apply()
    theirs: Any = MASPlugin.before_backward
    mas: Any = MASPlugin(lambda_reg=1.0, alpha=0.5)
    model = nn.Linear(1, 1)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    mas.params = {name: ParamData(name, init_tensor=v - 1) for name, v in start.items()}
    mas.importance = {name: ParamData(name, init_tensor=v * 0 + 2) for name, v in start.items()}
    strategy: Any = SimpleNamespace(model=model, loss=torch.zeros(1))
    strategy.clock = SimpleNamespace(train_exp_counter=1)
    with pytest.raises(ValueError, match="Loss is not available"):
        theirs.__wrapped__(mas, strategy)
    mas.before_backward(strategy)
    assert strategy.loss.item() == 4  # twice 2 (p - p*)^2


def test_rows_of_another_task_cannot_follow_a_part_of_one():
    patches.apply()
    part: Any = FlatData([ConstantSequence(0, 3)], indices=[0, 2])
    other: Any = ConstantSequence(1, 1)
    theirs: Any = FlatData.concat
    with pytest.raises(AttributeError, match="_datasets"):
        theirs.__wrapped__(part, other)
    assert list(part.concat(other)) == [0, 0, 1]


def test_icarls_rounding_would_exceed_its_memory(experiences, learner):
    strategy = learner(adapt("ICaRL"), memory_size=13)
    for experience in experiences():
        strategy.train(experience)
        assert len(strategy.info.memory) == 13 - 13 % experience.columns
    source = inspect.getsource(type(strategy.template.plugins[0]).construct_exemplar_set)
    assert "ceil(self.memory_size" in source


def test_default_criteria_are_shared_by_all_instances():
    default = inspect.signature(Naive).parameters["criterion"].default
    assert default is inspect.signature(Naive).parameters["criterion"].default
    assert isinstance(default, nn.CrossEntropyLoss)


def test_evaluation_and_periodic_evaluation_are_taken_off():
    model = nn.Linear(2, 2)
    options = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    template = fast(Naive)(**options, evaluator=EvaluationPlugin(loggers=[]))
    assert len(template.plugins) == 3
    template.drop_idle_plugins()
    assert template.plugins == [template.clock]


def test_bic_needs_the_patch(experiences, learner):
    assert BiC.__module__.startswith("avalanche")
    strategy = learner(adapt("BiC"), memory_size=30, stage_2_epochs=2)
    for experience in experiences():
        strategy.train(experience)
        assert len(strategy.info.memory) <= 30
