"""Training does not wait for its device between two reports of progress.

Tensors of torch's device ``meta`` have shapes and no values: whatever would have to be read back
from a GPU in the middle of a step (a value, the size of a mask) cannot be read from them.
"""

from typing import Any

import pytest
import torch

from clgym.api import make_strategy
from clgym.strategy import Experience, Memory, StreamInfo

META = torch.device("meta")
MEMORY = {"memory_size": 30}


@pytest.mark.parametrize(
    ("name", "options", "once"),
    [
        ("naive", {}, False),
        ("naive", {}, True),
        ("replay", MEMORY, False),
        ("derpp", MEMORY, False),
        ("der", MEMORY, False),
        ("er-ace", MEMORY, True),
        ("oewc", {}, False),
    ],
)
def test_no_step_reads_from_the_device(
    name: str, options: dict[str, Any], once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The loss is read where a report is due.
    monkeypatch.setattr(Experience, "progress", lambda self, *args, **named: None)
    strategy = make_strategy(name, network="mlp", batch_size=8, **options)
    memory = Memory(options.get("memory_size", 0))
    strategy.setup(
        StreamInfo(
            (1, 8, 8),
            "class-incremental",
            META,
            0,
            (0.5,),
            (0.3,),
            total_columns=4,
            single_pass=once,
            memory=memory,
        )
    )
    for index in range(2):
        pixels = torch.zeros(40, 1, 8, 8, dtype=torch.uint8, device=META)
        labels = torch.zeros(40, dtype=torch.int64, device=META)
        classes = (2 * index, 2 * index + 1)
        experience = Experience(
            index,
            pixels,
            labels,
            classes=classes,
            columns=2 * index + 2,
            seed=0,
            scale=1 / 255,
            single_pass=once,
        )
        strategy.train(experience)
        experience.close()
    assert len(memory) == options.get("memory_size", 0)
