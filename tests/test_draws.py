"""Named streams of random numbers: independent, stable, and the same for torch as for NumPy."""

import ast
import hashlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import clgym.data.generators
from clgym._version import __version__
from clgym.data.generators import (
    StepGenerators,
    generator_states,
    seed_generators,
    set_generators,
    torch_generator,
)
from clgym.draws import other_draws, sequence
from clgym.errors import BadPlugin
from clgym.strategy import Experience

PLACES = [None, 0, 1, 2, 2**32]
NAMES = [
    ("order",),
    ("augmentation",),
    ("strategy", "order"),
    ("strategy/order",),
    ("a", "b"),
    ("ab",),
]


def words(draws: np.random.SeedSequence) -> tuple[int, ...]:
    return tuple(draws.generate_state(4).tolist())


def test_no_two_keys_share_a_stream() -> None:
    """NumPy alone takes [1] and [1, 0], or [2**32] and [0, 1], for one key."""
    keys = list(itertools.product((0, 1, 2**32, 2**64), NAMES, PLACES, PLACES, PLACES))
    streams = {
        words(sequence(seed, *name, experience=i, epoch=j, step=k)) for seed, name, i, j, k in keys
    }
    assert len(streams) == len(keys) == 4 * 6 * 125


def test_a_stream_is_its_sha256() -> None:
    """An independent recipe: whoever repeats it in another language finds the same streams."""
    key = json.dumps([3, 1, None, 7, ["strategy", "replay"]])
    entropy = list(np.frombuffer(hashlib.sha256(key.encode()).digest(), "<u4"))
    index: Any = np.int64(1)  # a number out of an array is one like any other
    draws = sequence(3, "strategy", "replay", experience=index, step=7)
    assert words(draws) == words(np.random.SeedSequence(entropy))


def test_first_draws_are_pinned() -> None:
    """They are part of what records promise: whoever changes them changes `other_draws`, too."""
    assert words(sequence(0, "setup")) == PINNED_SETUP
    order = torch.randperm(8, generator=torch_generator(0, "order", experience=0, epoch=0))
    assert order.tolist() == PINNED_ORDER
    drawn = torch.rand(2, generator=torch_generator(5, "strategy", "replay", step=3))
    assert drawn.tolist() == pytest.approx(PINNED_REPLAY, abs=1e-7)
    seed_generators(1, "train", experience=2)
    found = [torch.rand(()).item(), np.random.rand(), random.random()]
    assert found == pytest.approx(PINNED_GLOBAL, abs=1e-7)


PINNED_SETUP = (1672310177, 3585525964, 1219604363, 4255648950)
PINNED_ORDER = [7, 0, 5, 3, 2, 6, 1, 4]
PINNED_REPLAY = [0.36922162771224976, 0.5148903131484985]
PINNED_GLOBAL = [0.5805252194404602, 0.8161871806980433, 0.7680260663586929]


def test_torch_draws_as_numpys_mersenne_twister() -> None:
    """All of torch's state comes from the stream, not the 32 bits that its seed takes."""
    draws = sequence(4, "order", epoch=1)
    key = np.random.PCG64(draws).random_raw(312).astype("<u8").view("<u4")
    oracle = np.random.RandomState()
    oracle.set_state(("MT19937", key, 624, 0, 0.0))
    drawn = torch.randint(2**16, (1000,), generator=torch_generator(4, "order", epoch=1))
    np.testing.assert_array_equal(drawn.numpy(), oracle.randint(0, 2**32, 1000, np.uint64) % 2**16)


def test_torchs_cpu_streams_use_more_than_a_seed_of_32_bits() -> None:
    keys = (torch_generator(0, "order", step=step).get_state() for step in range(2000))
    assert len({state[24:].numpy().tobytes() for state in keys}) == 2000
    low = torch_generator(0, "order", step=0)
    again = torch.Generator().manual_seed(low.initial_seed())
    assert not torch.equal(low.get_state(), again.get_state())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["order", "replay"]),
            st.sampled_from([None, 0, 1]),
            st.integers(0, 5) | st.just("next"),
        ),
        max_size=60,
    )
)
def test_generators_made_ahead_draw_as_single_ones(
    calls: list[tuple[str, int | None, int | str]],
) -> None:
    """In any order of names, epochs and steps, repeated steps included."""
    generators, last = StepGenerators(3, 2), -1
    for name, epoch, asked in calls:
        last = step = last + 1 if isinstance(asked, str) else asked
        found = generators.of(name, epoch=epoch, step=step)
        single = torch_generator(3, name, experience=2, epoch=epoch, step=step)
        assert torch.equal(found.get_state(), single.get_state())
        torch.rand(7, generator=found)  # the next one begins anew all the same


def test_generators_of_successive_steps_are_made_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(*args: Any, step: int, **kwargs: Any) -> torch.Generator:
        made.append(step)
        return torch_generator(*args, step=step, **kwargs)

    monkeypatch.setattr(clgym.data.generators, "torch_generator", counted)
    generators = StepGenerators(0, 0)
    for step in range(100):
        generators.of("replay", epoch=0, step=step)
        assert len(made) <= 2 * (step + 1) + 1, "a short epoch makes at most twice what it needs"
    assert sorted(made) == list(range(len(made))) and len(made) < 132


@pytest.mark.parametrize("name", [(0,), (1, 2), ("",), ("replay", 3)])
def test_a_number_in_the_place_of_a_name_is_refused(name: tuple) -> None:
    experience = Experience(
        0, torch.zeros(1, 1, 2, 2), torch.zeros(1), classes=(0,), columns=1, seed=0, scale=1.0
    )
    with pytest.raises(BadPlugin, match="a name for a stream"):
        experience.generator(*name)


def test_a_stream_without_a_name_is_refused() -> None:
    with pytest.raises(BadPlugin, match="found none"):
        sequence(0, epoch=1)


def test_a_strategy_cannot_draw_the_order_of_the_rows() -> None:
    """In clgym 0.1 `experience.generator(0)` was the stream that shuffles the first epoch."""
    experience = Experience(
        0, torch.zeros(50, 1, 1, 1), torch.arange(50), classes=(0,), columns=1, seed=0, scale=1.0
    )
    (batch,) = experience.batches(50)
    own = torch.randperm(50, generator=experience.generator("order", epoch=0))
    assert own.tolist() != batch.labels.tolist()


def test_global_generators_are_three_streams() -> None:
    seed_generators(0, "setup")
    state = torch.get_rng_state().view(torch.int64)[3:627].tolist()
    numpy_state = np.random.get_state(legacy=True)[1].tolist()  # type: ignore[index]
    assert len({tuple(state), tuple(numpy_state), random.getstate()[1][:-1]}) == 3


def test_global_generators_go_on_from_where_they_stood() -> None:
    cpu = torch.device("cpu")
    seed_generators(7, "train", experience=1)
    _ = torch.rand(5), torch.randn(3), np.random.rand(3), random.random()
    states = generator_states(cpu)
    first = torch.randn(3).tolist(), np.random.randn(), random.gauss(0, 1)
    seed_generators(0, "setup")
    set_generators(states, cpu)
    assert (torch.randn(3).tolist(), np.random.randn(), random.gauss(0, 1)) == first


def test_two_processes_draw_alike() -> None:
    """Python's `hash` of a name differs from process to process."""
    code = (
        "from clgym.draws import sequence; print(*sequence(2, 'a', 'b', step=1).generate_state(4))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(map(str, words(sequence(2, "a", "b", step=1))))


def test_sequences_need_no_torch() -> None:
    code = "import sys, clgym.draws; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("version", ["0.1.0", "0.1", "unknown", ""])
def test_other_draws_are_named(version: str) -> None:
    said = (
        f"made with the random draws of clgym {version}, which clgym {__version__} does not repeat"
    )
    assert other_draws(version) == said


@pytest.mark.parametrize("version", [__version__, "0.2.0", "0.3.1", "1.0"])
def test_later_versions_draw_as_this_one(version: str) -> None:
    assert other_draws(version) is None


ROOT = Path(__file__).parents[1]
SOURCES = {"SeedSequence", "default_rng", "RandomState", "Generator", "manual_seed", "seed"}
ELSEWHERE = {
    "clgym/draws.py": "the source itself",
    "clgym/data/generators.py": "what torch and the global generators are given",
    "clgym/data/source_data.py": "NumPy's generator of a named stream",
    "clgym/attributes.py": "an empty generator that takes the state of a saved one",
    "clgym/bench/images.py": "images to measure the speed of runs on",
    "clgym/board/stats.py": "the bootstrap of the board: a statistic of tables, no part of a run",
    "clgym/results/agreement.py": "the bootstrap of ranks: a statistic of tables, no part of a run",
    "clgym/check/behaviour.py": "noise that a check makes on purpose",
    "clgym/check/scenarios.py": "noise that a check makes on purpose",
    "clgym/check/adapting.py": "views of images that a check holds fixed",
    "clgym/data/corruptions.py": "content of corrupted images, which records name by digest",
    "clgym/data/apply_transform.py": "permuted pixels: content of a stream",
    "clgym/data/label_noise.py": "NumPy's generator of a named stream; content of a stream",
    "clgym/gym/given_images.py": "NumPy's generator of a named stream",
    "clgym/gym/withheld_order.py": "keyed by a secret, so that no learner can repeat it",
    "clgym/data/transforms.py": "torch's global one, for transforms of others, from a named stream",
    "clgym/learner/run_networks.py": "an image to compare two networks on",
    "clgym/models/backbone_weights.py": "weights named `random`, which records name by hash",
    "clgym/models/source_models.py": "images to compare two networks on",
    "clgym/protocol/gtep.py": "the draws of a paper's authors",
    "clgym/scenario.py": "published class orders; splits, which are content of a stream",
    "clgym/streams/orders.py": "published orders of label shift",
}


def made_in(file: Path) -> set[str]:
    """Names of generators and seeding functions that a file calls."""
    calls = (
        node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    )
    names = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}
    if "Random" in names:
        names.add("seed")
    return names & SOURCES


def test_nobody_else_makes_generators() -> None:
    """A new one draws from a named stream, or says here why its draws are none of a run's.

    Scenarios draw the content of streams, by the order seed; records name it by digest.
    """
    folders = ("clgym", "strategies")
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    found = {str(file.relative_to(ROOT)): made for file in files if (made := made_in(file))}
    assert {name: made for name, made in found.items() if name not in ELSEWHERE} == {}
    assert set(ELSEWHERE) == set(found), "a reason for a file that makes no generator"
