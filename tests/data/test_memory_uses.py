"""What methods ask of a memory, one need a test, each against plain lists or NumPy.

The first part are the needs of the nine methods that are trained from scratch under the tuning
protocol (exemplar replay, iCaRL, BiC, WA, PODNet, expandable, FOSTER, MEMO, BEEF): M samples in
all, floor(M / C) of each class once C classes have come. The second part are banks of test-time
methods.
"""

import numpy as np
import pytest
import torch

from clgym.data.memory import Memory
from clgym.errors import OutOfReach

M, STEP, PER_CLASS = 20, 2, 9
CPU = torch.device("cpu")


def ranking(label: int, count: int = PER_CLASS) -> np.ndarray:
    """Numbers of a class's images in the order in which herding picks them."""
    return 100 * label + np.random.default_rng(label).permutation(count)


def sample(rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Images by number, as a memory stores them; the label is the hundreds."""
    numbers = torch.from_numpy(np.asarray(rows, dtype=np.int64))
    pixels = (numbers % 251).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    return {"pixels": pixels, "labels": numbers // 100, "number": numbers}


def after_task(memory: Memory, classes_seen: int, count: int = PER_CLASS) -> None:
    """The order of work of section 6: old classes keep a prefix, then new ones are herded."""
    quota = memory.capacity // classes_seen
    kept = [rows[:quota] for _, rows in sorted(memory.rows_by().items())]
    memory.keep(torch.cat([torch.zeros(0, dtype=torch.int64), *kept]))
    for label in range(classes_seen - STEP, classes_seen):
        memory.append(**sample(ranking(label, count)[:quota]))


# --- the nine methods ----------------------------------------------------------------------------


def test_the_quota_is_that_of_all_classes_and_the_rest_stays_unused() -> None:
    memory = Memory(M)
    for seen, size in ((2, 18), (4, 20), (6, 18), (8, 16)):  # 9 images a class, then 5, 3, 2
        after_task(memory, seen)
        assert len(memory) == size == min(PER_CLASS, M // seen) * seen
        assert {len(rows) for rows in memory.rows_by().values()} == {min(PER_CLASS, M // seen)}


def test_old_classes_keep_the_first_of_their_ranking() -> None:
    memory = Memory(M)
    for seen in (2, 4, 6):
        after_task(memory, seen)
        for label, rows in memory.rows_by().items():
            wanted = ranking(label)[: M // seen]
            assert memory["number"][rows].tolist() == wanted.tolist()


def test_classes_stand_ascending_and_in_herding_order() -> None:
    memory = Memory(M)
    for seen in (2, 4, 6):
        after_task(memory, seen)
    wanted = np.concatenate([ranking(label)[: M // 6] for label in range(6)])
    assert memory["number"].tolist() == wanted.tolist()


def test_a_class_with_fewer_images_than_its_share_gives_all() -> None:
    memory = Memory(M)
    after_task(memory, 2, count=3)
    assert len(memory) == 6


def test_more_than_m_are_refused_and_nothing_changes() -> None:
    memory = Memory(M)
    after_task(memory, 2)
    after_task(memory, 4)
    before = memory["number"].clone()
    with pytest.raises(OutOfReach, match="at most 0 more samples in a memory of 20"):
        memory.append(**sample(ranking(9)))
    assert torch.equal(memory["number"], before)


def test_new_classes_are_herded_again_after_fine_tuning() -> None:
    """PODNet: a second herding with the fine-tuned network replaces the first one's picks."""
    memory = Memory(M)
    after_task(memory, 2)
    old = memory.rows_by()[0]
    again = ranking(1)[::-1][:5].copy()
    held = memory.columns()
    joined = {k: torch.cat([held[k][old[:5]], v]) for k, v in sample(again).items()}
    memory.replace(**joined)
    assert memory["number"].tolist() == [*ranking(0)[:5], *again]


def test_images_are_stored_as_they_are_not_augmented() -> None:
    memory = Memory(M)
    after_task(memory, 2)
    assert memory["pixels"].dtype == torch.uint8
    assert torch.equal(memory["pixels"], sample(memory["number"].numpy())["pixels"])


def test_class_means_come_from_the_stored_exemplars() -> None:
    memory = Memory(M)
    for seen in (2, 4):
        after_task(memory, seen)
    features = torch.randn(251, 5, generator=torch.Generator().manual_seed(0))
    held = features[memory["number"] % 251].numpy()
    labels = memory["labels"].numpy()
    for label, rows in memory.rows_by().items():
        mean = features[memory["number"][rows] % 251].mean(0)
        np.testing.assert_allclose(mean, held[labels == label].mean(0), rtol=1e-4)


@pytest.mark.parametrize("share", [1, 2, 5])
def test_validation_samples_are_drawn_class_by_class_without_replacement(share: int) -> None:
    """BiC and BEEF: v exemplars of each old class; what is left trains on."""
    memory, draws = Memory(M), torch.Generator().manual_seed(1)
    for seen in (2, 4):
        after_task(memory, seen)
    for label, rows in memory.rows_by().items():
        drawn = memory.draw(share, draws, among=rows)["number"].tolist()
        assert len(set(drawn)) == share
        assert set(drawn) <= set(ranking(label)[: M // 4].tolist())


def test_all_exemplars_join_the_new_data_in_one_set() -> None:
    memory = Memory(M)
    after_task(memory, 2)
    whole = memory.draw(M, torch.Generator().manual_seed(3))
    assert sorted(whole["number"].tolist()) == sorted(memory["number"].tolist())
    assert torch.equal(whole["labels"], whole["number"] // 100)


def test_tensors_of_a_sample_go_with_it() -> None:
    """Logits or features beside each sample, which grow wider with the classes."""
    memory = Memory(6)
    memory.append(**sample(np.array([3, 104])), logits=torch.eye(2))
    memory.append(**sample(np.array([205])), logits=torch.tensor([[0.0, 0.0, 7.0]]))
    memory.keep(torch.tensor([2, 0]))
    assert memory["logits"].tolist() == [[0, 0, 7], [1, 0, 0]]
    assert memory["number"].tolist() == [205, 3]


def test_a_run_that_was_killed_goes_on_with_the_same_ranking() -> None:
    one, other = Memory(M), Memory(M)
    after_task(one, 2)
    other.load_state_dict(one.state_dict(), CPU)
    for memory in (one, other):
        after_task(memory, 4)
    assert one["number"].tolist() == other["number"].tolist()


def test_samples_and_bytes_are_counted_after_every_task() -> None:
    memory = Memory(M)
    for seen in (2, 4, 6):
        after_task(memory, seen)
        assert memory.size == len(memory) * (3 * 2 * 2 + 8 + 8)


# --- banks of test-time methods ------------------------------------------------------------------


def arrivals(count: int, seed: int = 0) -> list[tuple[int, int, float]]:
    """Number, predicted class (some are frequent) and entropy of images, one by one."""
    draw = np.random.default_rng(seed)
    labels = np.minimum(draw.geometric(0.4, count) - 1, 4)
    return list(zip(range(count), labels.tolist(), draw.random(count).tolist(), strict=True))


def item(number: int, label: int, entropy: float) -> dict[str, torch.Tensor]:
    return {
        "number": torch.tensor([number]),
        "labels": torch.tensor([label]),
        "entropy": torch.tensor([entropy], dtype=torch.float64),
    }


def test_a_window_holds_the_latest() -> None:
    memory, size = Memory(5), 5
    for number, label, entropy in arrivals(17):
        if len(memory) == size:
            memory.keep(torch.arange(1, size))
        memory.append(**item(number, label, entropy))
        assert memory["number"].tolist() == list(range(max(0, number - size + 1), number + 1))


def test_a_bank_is_balanced_over_predicted_classes() -> None:
    """NOTE's prediction-balanced reservoir, with lists beside it that make the same draws."""
    capacity, draws, again = 10, *(torch.Generator().manual_seed(4) for _ in range(2))
    memory, seen = Memory(capacity), dict[int, int]()
    lists: list[tuple[int, int]] = []

    def pick(count: int, generator: torch.Generator) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    for number, label, entropy in arrivals(120):
        seen[label] = seen.get(label, 0) + 1
        rows = memory.rows_by()
        if len(memory) < capacity:
            memory.append(**item(number, label, entropy))
            lists.append((number, label))
            continue
        largest = max(map(len, rows.values()))
        crowded = [c for c, r in rows.items() if len(r) == largest]
        if label not in crowded:
            among = torch.cat([rows[c] for c in crowded])
            chosen = int(among[pick(len(among), draws)])
            places = [i for c in crowded for i, (_, k) in enumerate(lists) if k == c]
            lists[places[pick(len(places), again)]] = (number, label)
            memory.put(torch.tensor([chosen]), **item(number, label, entropy))
        elif (place := pick(seen[label], draws)) < len(rows[label]):
            own = [i for i, (_, k) in enumerate(lists) if k == label]
            lists[own[pick(seen[label], again)]] = (number, label)
            memory.put(rows[label][place : place + 1], **item(number, label, entropy))
        else:
            pick(seen[label], again)
        assert memory["number"].tolist() == [n for n, _ in lists]
    sizes = [len(rows) for rows in memory.rows_by().values()]
    assert max(sizes) - min(sizes) <= 1


def test_supports_of_low_entropy_are_kept_for_each_class() -> None:
    """T3A: of every class the most certain ones, features and all."""
    memory, most = Memory(15), 3
    kept: dict[int, list[tuple[float, int]]] = {}
    for number, label, entropy in arrivals(60):
        rows = memory.rows_by().get(label, torch.zeros(0, dtype=torch.int64))
        kept[label] = sorted([*kept.get(label, []), (entropy, number)])[:most]
        if len(rows) < most:
            memory.append(**item(number, label, entropy))
        else:
            worst = rows[memory["entropy"][rows].argmax()]
            if float(memory["entropy"][worst]) > entropy:
                memory.put(worst[None], **item(number, label, entropy))
    for label, rows in memory.rows_by().items():
        assert sorted(memory["number"][rows].tolist()) == sorted(n for _, n in kept[label])


def test_ages_grow_in_place() -> None:
    memory = Memory(3)
    memory.append(age=torch.zeros(2, dtype=torch.int64))
    memory["age"].add_(1)
    memory.append(age=torch.zeros(1, dtype=torch.int64))
    assert memory["age"].tolist() == [1, 1, 0]
