"""PackNet: tasks packed into one body by pruning, each with its own head as in the paper."""

from typing import Any

from avalanche.models.packnet import PackNetModel, WeightAndBiasPackNetModule
from torch import Tensor, nn

from clgym.avalanche.heads import CURRENT
from clgym.errors import BadConfig, Incompatible
from clgym.models.networks import Classifier

__all__ = ["Always", "Packed", "check", "watch_gradients"]


class Always:
    """The same share for every task, instead of Avalanche's lambda, which cannot be saved."""

    def __init__(self, share: float) -> None:
        """Store ``share``, a fraction in [0, 1]."""
        self.share = share

    def __call__(self, task: int) -> float:
        """Share of the free weights that is pruned in ``task``."""
        return self.share


class Packed(PackNetModel):
    """A network of `with_heads` whose body is packed; heads are plain, since tasks share none."""

    def __init__(self, network: Classifier) -> None:
        """Pack ``network``, which has no head yet.

        Raises:
            Incompatible: The network has layers that Avalanche's PackNet cannot prune.
        """
        try:
            super().__init__(network)
        except ValueError as error:
            raise Incompatible(
                expected="a network without normalisation, for Avalanche's PackNet",
                found=str(error),
                fix="Give --network mlp",
            ) from error

    # Avalanche passes both by position; its own classes do not agree on the names.
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Tensor, task_labels: Any = CURRENT
    ) -> Any:
        """Logits [n, columns] for one task, by the weights that it may use.

        Args:
            images: [n, C, H, W].
            task_labels: One task id, or int64 [n] with equal ids; left out, the present task.
        """
        network: Any = self.wrappee
        task = network.task if task_labels is CURRENT else task_labels
        if isinstance(task, Tensor):
            task = int(task[0])
        self.activate_task(min(task, self.task_count))
        return network(images, task)


def watch_gradients(model: nn.Module) -> None:
    """Register again the hooks that zero gradients of frozen weights: states lack them."""
    for module in model.modules():
        if isinstance(module, WeightAndBiasPackNetModule):
            weight: Any = module.wrappee.weight
            weight.register_hook(module._remove_gradient_hook)


def check(config: Any) -> None:
    """Refuse options under which earlier tasks would change.

    Raises:
        BadConfig: Weight decay is not 0, or there is no epoch before or after the pruning.
    """
    if config.weight_decay:
        raise BadConfig(
            expected="no weight decay with PackNet, since it changes the weights of earlier tasks",
            found=f"weight_decay = {config.weight_decay}",
            fix="Remove --weight-decay",
        )
    if config.post_prune_epochs >= config.epochs or config.post_prune_epochs < 1:
        raise BadConfig(
            expected="at least one epoch before and one after the pruning",
            found=f"{config.epochs} epochs, of which {config.post_prune_epochs} after it",
            fix="Give --epochs more than --post-prune-epochs, and that at least 1",
        )
