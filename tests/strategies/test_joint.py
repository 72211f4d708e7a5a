import torch

from clgym import registry
from clgym.strategy import Strategy


def joint():
    return registry.load_class(registry.find("strategies", "joint"), Strategy)


def test_each_experience_starts_from_fresh_weights(experiences, learner):
    """Trained on the last experience alone or after others: the same, given the same draws."""
    alone, after = learner(joint()), learner(joint())
    first, last = experiences(steps=2)
    torch.manual_seed(1)
    after.train(first)
    for strategy in (alone, after):
        torch.manual_seed(5)
        strategy.train(last)
    for key, value in alone.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[key], value), key


def test_joint_needs_the_rows_of_all_experiences_so_far(learner):
    assert learner(joint()).needs.past_data
