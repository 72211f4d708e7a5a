import torch

from clgym import registry
from clgym.strategy import Batch, Strategy


def naive():
    return registry.load_class(registry.find("strategies", "naive"), Strategy)


def test_naive_learns_the_new_classes_and_forgets_the_old(experiences, learner):
    strategy = learner(naive(), lr=0.2, epochs=20)
    first, second = experiences(steps=2)
    images, labels = first.to_float(first.pixels), first.labels.clone()
    strategy.train(first)
    assert (strategy.predict(Batch(images)).argmax(1) == labels).float().mean() > 0.9
    strategy.train(second)
    answer = strategy.predict(Batch(images))
    assert answer.shape == (48, 4)
    assert (answer.argmax(1) == labels).float().mean() < 0.5


def test_naive_keeps_no_samples(experiences, learner):
    strategy = learner(naive())
    assert strategy.needs.memory == 0 and not strategy.needs.past_data
    for experience in experiences():
        strategy.train(experience)
        state = strategy.state_dict()
        assert set(state) == {"seen", "merged", "network", "position", "_tasks", "_plugin_states"}
        assert torch.is_tensor(state["network"]["part"]["head.weight"])
