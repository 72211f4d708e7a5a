"""Whole runs of the methods with exemplars, as golden files have them: replayed step by step.

A session file has the start of each task, the order of images and the loss of every step, the state
after each stage, the exemplars and the answers. `Session` drives a strategy with the file's orders
and compares all of it. A method says how its tensors are called in the file, and which are fresh.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.models.staged import TwoConvolutions
from clgym.strategy import Batch, Experience, Memory
from factories import stream_info

Tensors = Mapping[str, Tensor]


class FromFile(Experience):
    """Its images are the file's numbers, in the file's order. ``orders``: image ids by epoch."""

    orders: list[np.ndarray]
    id_of: dict[bytes, int]

    def to_float(self, pixels: Tensor) -> Tensor:
        return pixels

    def _order(self, epoch: int) -> Tensor:
        place = {self.id_of[row.numpy().tobytes()]: i for i, row in enumerate(self.pixels)}
        wanted = [place[number] for number in self.orders[epoch].tolist()]
        assert sorted(wanted) == list(range(len(self))), "the file has other rows in this epoch"
        return torch.tensor(wanted)


def plain_tensors(strategy: Any) -> dict[str, Tensor]:
    """Tensors of a backbone with a linear head, by the names of the files."""
    state = strategy.network.state_dict()
    names = {name: name.replace("backbone.", "branch0.") for name in state}
    return {names[name]: state[name] for name in state if name not in ("mean", "std")}


def fresh_rows(name: str, task: int, known: int) -> slice:
    """Rows of a tensor that a task draws: all at first, then those of new classes in the head."""
    if task == 0:
        return slice(None)
    return slice(known, None) if name.startswith("head.") else slice(0, 0)


class Session:
    """One session file and the strategy that is driven through it."""

    def __init__(
        self,
        golden: Any,
        made: type,
        options: Mapping[str, str],
        *,
        tensors: Callable[[Any], Tensors] = plain_tensors,
        fresh: Callable[[str, int, int], slice] = fresh_rows,
        unused: tuple[str, ...] = (),
        tolerance: float = 1e-9,
        **config: Any,
    ) -> None:
        """Set up the strategy.

        Args:
            golden: The file.
            made: The strategy's class.
            options: The authors' names of the method's hyper-parameters to those of the config.
            tensors: The strategy's tensors, by the names of the file.
            fresh: Rows of a tensor that a task draws; they are taken from the file.
            unused: Beginnings of names that the released code makes and never uses.
            tolerance: Largest difference.
            config: Further options.
        """
        self.unused = unused
        self.golden, self.hp = golden, json.loads(str(golden["hp"]))
        self.inputs = golden.sibling(f"scratch_inputs_{golden['inputs']}")
        self.tensors, self.fresh, self.tolerance = tensors, fresh, tolerance
        self.x = torch.from_numpy(self.inputs["train_x"]).double()
        self.y = torch.from_numpy(self.inputs["train_y"]).long()
        self.id_of = {row.numpy().tobytes(): i for i, row in enumerate(self.x)}
        self.losses: list[float] = []
        self.ends: list[dict[str, Tensor]] = []
        self.strategy = self.make(made, {**self.config(options), **config})

    def config(self, options: Mapping[str, str]) -> dict[str, Any]:
        usual = {
            "init_epoch": "first_epochs", "init_lr": "first_lr", "init_lr_decay": "first_lr_decay",
            "init_weight_decay": "first_weight_decay", "epochs": "epochs", "lrate": "lr",
            "lrate_decay": "lr_decay", "batch_size": "batch_size", "weight_decay": "weight_decay",
            "memory_size": "memory_size", **options,
        }  # fmt: skip
        schedule = {"steplr": "step", "cosine": "cosine"}[self.hp["scheduler"]]
        found = {own: self.hp[theirs] for theirs, own in usual.items()}
        return {**found, "schedule": schedule, "augment": "none"}

    def make(self, made: type, config: dict[str, Any]) -> Any:
        session = self

        class Driven(made):  # type: ignore[misc]
            def make_backbone(self) -> Any:
                widths = tuple(session.inputs["channels"].tolist())
                channels = self.info.image_shape[0]
                made = TwoConvolutions(channels, widths, last_relu=self.RECTIFIED)
                return made, made.width

            def before_experience(self, experience: Experience) -> None:
                super().before_experience(experience)
                session.start(experience.index)

            def drops(self, stage: str, epochs: int) -> tuple[int, ...]:
                prefix = {"first": "init_", "train": "", "finetune": "ft_"}.get(stage, f"{stage}_")
                return tuple(session.hp[f"{prefix}milestones"])

        strategy: Any = Driven(made.Config(**config))  # type: ignore[attr-defined]
        shape = tuple(self.x.shape[1:])
        strategy.setup(stream_info(shape, memory=Memory(self.hp["memory_size"])))
        self.watch(strategy.template)
        return strategy

    def watch(self, template: Any) -> None:
        """Note the loss of every step and the tensors after every stage."""
        criterion, train = template.criterion, template.train

        def noted() -> Tensor:
            loss = criterion()
            self.losses.append(float(loss.detach()))
            return loss

        def trained(*args: Any) -> None:
            train(*args)
            self.ends.append({k: v.clone() for k, v in self.tensors(self.strategy).items()})

        template.criterion, template.train = noted, trained

    def close(self, found: Any, wanted: np.ndarray, what: str) -> None:
        found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=self.tolerance, err_msg=what)

    def start(self, task: int) -> None:
        """Compare what a task inherits, and take over what it draws."""
        known = sum(self.hp["increments"][:task])
        own = self.tensors(self.strategy)
        for name, wanted in self.golden.group(f"task{task}.start.").items():
            if name.startswith(self.unused or " "):
                continue
            fresh = self.fresh(name, task, known)
            with torch.no_grad():
                if own[name].ndim and (task > 0 or fresh != slice(None)):
                    own[name][fresh] = torch.from_numpy(wanted)[fresh].to(own[name])
                elif task == 0:
                    own[name].copy_(torch.from_numpy(np.asarray(wanted)))
            self.close(own[name], wanted, f"task{task}.start.{name}")

    def run(self, stages: tuple[str, ...] = ("train",)) -> None:
        """Train all tasks and compare every number; the first task has the first stage alone."""
        seen = 0
        for task, size in enumerate(self.hp["increments"]):
            here = stages if task else stages[:1]
            self.losses.clear(), self.ends.clear()
            self.train(task, range(seen, seen + size), here)
            seen += size
            self.compare_stages(task, here)
            self.compare_memory(task)
            self.compare_answers(task)

    def train(self, task: int, classes: range, stages: tuple[str, ...]) -> None:
        rows = torch.isin(self.y, torch.tensor(list(classes))).nonzero()[:, 0]
        experience = FromFile(
            task,
            self.x[rows],
            self.y[rows],
            classes=tuple(classes),
            columns=classes.stop,
            seed=0,
            scale=1.0,
        )
        experience.id_of = self.id_of
        experience.orders = [
            epoch for stage in stages for epoch in self.golden[f"task{task}.{stage}.order"]
        ]
        self.strategy.train(experience)
        experience.close()

    def compare_stages(self, task: int, stages: tuple[str, ...]) -> None:
        losses = [self.golden[f"task{task}.{stage}.loss"] for stage in stages]
        self.close(self.losses, np.concatenate(losses), f"task{task} losses")
        assert len(self.ends) == len(stages)
        for stage, found in zip(stages, self.ends, strict=True):
            for name, wanted in self.golden.group(f"task{task}.{stage}.end.").items():
                if not name.startswith(self.unused or " "):
                    self.close(found[name], wanted, f"task{task}.{stage}.end.{name}")
        for name, wanted in self.golden.group(f"task{task}.final.").items():
            self.close(self.tensors(self.strategy)[name], wanted, f"task{task}.final.{name}")

    def compare_memory(self, task: int) -> None:
        memory = self.strategy.info.memory
        found = [self.id_of[row.numpy().tobytes()] for row in memory["pixels"]]
        assert found == self.golden[f"task{task}.memory_ids"].tolist()
        assert memory["labels"].tolist() == self.golden[f"task{task}.memory_targets"].tolist()
        assert len(found) <= self.hp["memory_size"]
        self.close(self.strategy.means, self.golden[f"task{task}.class_means"], f"task{task} means")

    def compare_answers(self, task: int) -> None:
        ids = self.golden[f"task{task}.test_ids"]
        images = torch.from_numpy(self.inputs["test_x"][ids]).double()
        with torch.no_grad():
            answers = self.strategy.predict_by_head(Batch(images))
        self.close(answers["linear"], self.golden[f"task{task}.test_logits"], f"task{task} logits")
        nearest = answers["nme"].argmax(1).numpy()
        np.testing.assert_array_equal(nearest, self.golden[f"task{task}.nme_pred"])
        labels = self.inputs["test_y"][ids]
        for head, name in (("linear", "acc_head"), ("nme", "acc_nme")):
            share = 100 * (answers[head].argmax(1).numpy() == labels).mean()
            self.close(share, self.golden[f"task{task}.{name}"], f"task{task}.{name}")
