"""DER++ against its formula in float64, and against the authors' step where vectors are there."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from clgym import registry
from clgym.strategy import Experience, Strategy


def derpp():
    return registry.load_class(registry.find("strategies", "derpp"), Strategy)


class Exact(Experience):
    """Its images are kept in double precision."""

    def to_float(self, pixels):
        return pixels.double() * self._scale


class Watch(SupervisedPlugin):
    """The network and the memory before each step, the loss after it."""

    def __init__(self, memory):
        super().__init__()
        self.memory, self.steps = memory, []

    def before_training_iteration(self, strategy, **kwargs):
        held = copy.deepcopy(self.memory.state_dict()["columns"])
        self.steps.append(
            [copy.deepcopy(strategy.model), held, [b.clone() for b in strategy.mbatch]]
        )

    def after_update(self, strategy, **kwargs):
        self.steps[-1].append(float(strategy.loss.detach()))


def softmax_loss(logits, labels):
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def test_each_loss_is_the_formula(experiences, learner):
    strategy = learner(
        derpp(), batch_size=16, replay_batch=100, memory_size=40, alpha=0.3, beta=0.7
    )
    strategy.network.double()
    strategy._renew_optimizer()
    strategy.plain = strategy.network.grow
    watch = Watch(strategy.info.memory)
    strategy.template.plugins.insert(0, watch)
    for experience in experiences(steps=2):
        exact = Exact(
            experience.index,
            experience.pixels,
            experience.labels,
            classes=experience.classes,
            columns=experience.columns,
            seed=0,
            scale=1 / 255,
        )
        strategy.train(exact)
    assert len(watch.steps) == 6
    for number, (network, held, (x, y, _), loss) in enumerate(watch.steps):

        def net(images, network=network):
            with torch.no_grad():
                return network(images).numpy()

        wanted = softmax_loss(net(x), y.numpy())
        if number:  # every draw is the whole memory: 100 > 40
            logits = net(held["pixels"].double() / 255)
            assert logits.shape[1] == 6  # a column for each class of the stream from the start
            wanted += 0.3 * np.mean((logits - held["logits"].numpy()) ** 2)
            wanted += 0.7 * softmax_loss(logits, held["labels"].numpy())
        assert loss == pytest.approx(wanted, rel=1e-10), number


def test_stored_logits_are_those_of_the_steps_own_forward(experiences, learner):
    strategy = learner(derpp(), batch_size=16, memory_size=500, augment="crop-flip")
    watch = Watch(strategy.info.memory)
    strategy.template.plugins.insert(0, watch)
    (experience,) = experiences(steps=1)
    pixels = {tuple(p.flatten().tolist()) for p in experience.pixels}
    strategy.train(experience)
    memory = strategy.info.memory
    with torch.no_grad():
        wanted = torch.cat([network(batch[0]) for network, _, batch, _ in watch.steps])
    torch.testing.assert_close(memory["logits"], wanted)
    assert {tuple(p.flatten().tolist()) for p in memory["pixels"]} == pixels  # not augmented
    assert memory["labels"].tolist() == torch.cat([b[1] for _, _, b, _ in watch.steps]).tolist()


def test_samples_are_offered_in_every_epoch(experiences, learner):
    strategy = learner(derpp(), epochs=3)
    (experience,) = experiences(steps=1)
    strategy.train(experience)
    assert strategy.info.memory.seen == 3 * 48


def test_batch_statistics_move_three_times_a_step(experiences, learner):
    strategy = learner(derpp(), batch_size=16, network="slim-resnet18")
    (experience,) = experiences(steps=1)
    strategy.train(experience)
    assert strategy.network.backbone.bn1.num_batches_tracked == 1 + 3 + 3


GOLDEN = os.environ.get("CLGYM_GOLDEN")


@pytest.mark.skipif(GOLDEN is None, reason="CLGYM_GOLDEN names no folder of golden vectors")
def test_the_base_step_of_the_authors(learner):
    """From the weights after unlearning, one step of ours gives those after relearning."""
    file = np.load(Path(str(GOLDEN)) / "refresh_derpp_mlp.npz")

    def tensors(prefix):
        names = [k for k in file.files if k.startswith(prefix)]
        return {k.removeprefix(prefix): torch.from_numpy(file[k].copy()) for k in names}

    class Net(torch.nn.Module):
        columns = 3

        def __init__(self, weights):
            super().__init__()
            self.fc1 = torch.nn.Linear(*weights["fc1.weight"].shape[::-1])
            self.fc2 = torch.nn.Linear(*weights["fc2.weight"].shape[::-1])
            self.double().load_state_dict(weights)

        def forward(self, x):
            return self.fc2(torch.relu(self.fc1(x)))

        def grow(self, columns):
            pass

    x, y = tensors("step0.x")[""], tensors("step0.y")[""].long()

    class Bare(derpp()):
        def make_network(self, columns):
            return Net(tensors("step0.after_unlearn."))

    strategy = learner(
        Bare,
        batch_size=len(x),
        replay_batch=10_000,
        lr=float(file["lr"]),
        alpha=float(file["alpha"]),
        beta=float(file["beta"]),
        weight_decay=float(file["weight_decay"]),
    )
    memory = strategy.info.memory
    held = {"pixels": file["buf_x"], "labels": file["buf_y"], "logits": file["buf_logits"]}
    columns = {k: torch.from_numpy(v.copy()) for k, v in held.items()}
    memory.load_state_dict({"seen": len(file["buf_x"]), "columns": columns}, torch.device("cpu"))
    watch = Watch(memory)
    strategy.template.plugins.append(watch)
    classes = tuple(sorted(set(y.tolist())))
    strategy.train(Exact(0, x, y, classes=classes, columns=3, seed=0, scale=1.0))
    assert watch.steps[0][3] == pytest.approx(float(file["step0.loss"]), abs=1e-10)
    for name, value in tensors("step0.after_relearn.").items():
        torch.testing.assert_close(
            strategy.network.get_parameter(name).data, value, rtol=0, atol=1e-10
        )
