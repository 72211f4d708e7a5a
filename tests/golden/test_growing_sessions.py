"""Expandable, MEMO, FOSTER and BEEF against whole runs of the authors' code, in float64."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clgym.registry import find, load_module
from clgym.strategy import Experience
from sessions import Session

FAMILY = ("expandable_session", "memo_session", "foster_session", "beef_session")
NAMES = {"extra": "fe", "past": "backward", "energies": "forward"}


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    """The files' numbers were made in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Used:
    """A golden file without what the released code makes and never uses."""

    def __init__(self, golden: Any, unused: str) -> None:
        self.golden, self.unused = golden, re.compile(unused)

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        found = self.golden.group(prefix)
        return {key: found[key] for key in found if not self.unused.search(prefix + key)}

    def __getitem__(self, key: str) -> np.ndarray:
        return self.golden[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.golden, name)


def by_file_names(network: Any, **others: str) -> dict[str, Tensor]:
    """Tensors of a growing network, as the files call them; views where they are shared."""
    names, found = {**NAMES, **others}, {}
    for key, value in network.state_dict().items():
        part, _, rest = key.partition(".")
        if part == "backbone":
            kind, _, rest = rest.partition(".")
            number, _, inner = rest.partition(".")
            found[f"base.{rest}" if kind == "base" else f"branch{number}.{inner}"] = value
        elif part in ("alpha", "beta"):
            found.update({f"fusion{i}.{part}": value[i : i + 1] for i in range(len(value))})
        elif rest:
            found[f"{names.get(part, part)}.{rest}"] = value
    return found


class Growing(Session):
    """A session in which old rows get fresh columns, too."""

    hidden = r"task0\..*aux\."

    def __init__(self, golden: Any, name: str, options: Mapping[str, str], **config: Any) -> None:
        made = getattr(load_module(find("strategies", name)), name.title())
        used: Any = Used(golden, self.hidden)
        super().__init__(
            used, self.driven(made), options, tensors=self.named, fresh=self.drawn, **config
        )

    def driven(self, made: type) -> type:
        """The strategy's class, driven further by the file where that is needed."""
        return made

    def named(self, strategy: Any) -> Mapping[str, Tensor]:
        """Tensors of the present state."""
        return by_file_names(strategy.network)

    def drawn(self, name: str, task: int, known: int) -> Any:
        """Entries that a task draws: of the head all but its old block, of other heads all."""
        part, _, kind = name.partition(".")
        if task == 0 or part in ("aux", "fe"):
            return slice(None)
        if part != "head":
            return slice(0, 0)
        mask = torch.ones_like(self.named(self.strategy)[name], dtype=torch.bool)
        network = self.strategy.network
        width = network.head.in_features - network.backbone.width
        mask[(slice(known), slice(width)) if kind == "weight" else slice(known)] = False
        return mask


@pytest.mark.golden("expandable_session_*")
def test_expandable(golden) -> None:
    Growing(golden, "expandable", {"lambda_aux": "lambda_aux"}).run()


@pytest.mark.golden("memo_session_*")
def test_memo(golden) -> None:
    options = {"lambda_aux": "lambda_aux", "examplar_batch_size": "exemplar_batch"}
    Growing(golden, "memo", options, train_base=json.loads(str(golden["hp"]))["train_base"]).run()


class FosterSession(Growing):
    """Two stages; the second trains the student, which then goes on."""

    hidden = r"task0\..*fe\.|compress\.(start|end)\.fe\."

    def __init__(self, golden: Any) -> None:
        names = ("lambda_okd", "lambda_fe", "beta1", "beta2", "compression_epochs")
        super().__init__(golden, "foster", {"T": "temperature", **{n: n for n in names}})
        self.hp["compress_milestones"] = self.hp["comp_milestones"]

    def named(self, strategy: Any) -> Mapping[str, Tensor]:
        compressing = strategy.stage_index == 1
        return by_file_names(strategy.student if compressing else strategy.network)

    def start(self, task: int) -> None:
        """The student begins as the frozen branch, its head as the old one."""
        super().start(task)
        if task == 0:
            return
        known, student = self.strategy.known, by_file_names(self.strategy.student)
        for name, wanted in self.golden.group(f"task{task}.compress.start.").items():
            if name.startswith("head"):
                with torch.no_grad():
                    student[name][known:] = torch.from_numpy(wanted)[known:]
            self.close(student[name], wanted, f"task{task}.compress.start.{name}")

    def compare_answers(self, task: int) -> None:
        super().compare_answers(task)
        if task == 0:
            return
        ids = self.golden[f"task{task}.test_ids"]
        images = torch.from_numpy(self.inputs["test_x"][ids]).double()
        with torch.no_grad():
            answers = self.strategy.student.eval()(images)
        self.close(answers, self.golden[f"task{task}.test_logits_compressed"], "student")


@pytest.mark.golden("foster_session_*")
def test_foster(golden) -> None:
    FosterSession(golden).run(("train", "compress"))


class BeefSession(Growing):
    """Expansion and fusion, without noise, on the file's choice of images for the fusion."""

    hidden = r"\.fe\."

    def __init__(self, golden: Any) -> None:
        options = {
            "fusion_epochs": "fusion_epochs",
            "energy_weight": "energy_weight",
            "logits_alignment": "logit_alignment",
        }
        variant = "fixed" if "fixed" in golden.name else "released"
        super().__init__(golden, "beef", options, variant=variant, sampling_noise=0.0)

    def driven(self, made: type) -> type:
        session = self

        class OnTheFilesImages(made):  # type: ignore[misc]
            def validation_rows(self, experience: Experience) -> Tensor:
                """Checks their number per class against the rule."""
                order = session.golden[f"task{experience.index}.fusion.order"][0].tolist()
                ids = [session.id_of[row.numpy().tobytes()] for row in experience.pixels]
                rows = torch.tensor([i for i, number in enumerate(ids) if number in order])
                ours = super().validation_rows(experience)
                counts = [experience.labels[r].bincount().tolist() for r in (rows, ours)]
                assert counts[0] == counts[1]
                return rows

        return OnTheFilesImages

    def named(self, strategy: Any) -> Mapping[str, Tensor]:
        """The old head is the merged one when the task is over."""
        found = by_file_names(strategy.network, head="old_head")
        if strategy.known == strategy.network.columns:
            merged = strategy.network.merged_head()
            found |= {"old_head.weight": merged.weight, "old_head.bias": merged.bias}
        return found

    def drawn(self, name: str, task: int, known: int) -> Any:
        """Every task's own heads are fresh."""
        fresh = task == 0 or name.startswith(("new_head", "backward", "forward"))
        return slice(None) if fresh else slice(0, 0)


@pytest.mark.golden("beef_session_*")
def test_beef(golden) -> None:
    BeefSession(golden).run(("train", "fusion"))
