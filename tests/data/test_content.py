"""Copies, labels that disagree, images on both sides, classes that nothing measures."""

import numpy as np
import pytest

from clgym.board.reading.entries import run_flags
from clgym.data.sources import load_source
from clgym.errors import BadSource
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.scenario import split_validation

WITHOUT_TEST = "classes without test images, never measured"


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)


def saved(path, groups):
    """Write an npz; the name of each class stands before its images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.arange(len(groups)), [len(g) for g in groups.values()])
    images = np.concatenate(list(groups.values()))
    np.savez(path, images=images, labels=labels, classes=np.array(list(groups)))
    return f"npz:{path}"


def counts(source):
    return [
        np.bincount(s.labels, minlength=len(source.classes)).tolist()
        for s in (source.train, source.test)
    ]


def test_a_class_of_copies_stays_in_training_and_is_named(tmp_path):
    groups = {"a": pictures(20, 1), "copies": pictures(1, 2).repeat(20, 0), "c": pictures(20, 3)}
    source = load_source(saved(tmp_path / "a.npz", groups))
    assert counts(source) == [[16, 20, 16], [4, 0, 4]]
    assert f"{WITHOUT_TEST}: copies" in source.flags


def test_of_two_images_one_is_learned_whatever_their_copies(tmp_path):
    for seed in range(8):
        two = pictures(2, seed)
        groups = {"a": pictures(20, 9), "two": np.concatenate([two[:1].repeat(19, 0), two[1:]])}
        source = load_source(saved(tmp_path / f"{seed}.npz", groups))
        trained, tested = (bound[1] for bound in counts(source))
        assert {trained, tested} == {1, 19}
        assert not any(f.startswith(WITHOUT_TEST) for f in source.flags)


def test_a_source_of_nothing_but_copies_is_refused_by_name(tmp_path):
    groups = {name: pictures(1, i).repeat(20, 0) for i, name in enumerate(("cat", "dog"))}
    with pytest.raises(BadSource, match="only copies of an image in cat, dog"):
        load_source(saved(tmp_path / "a.npz", groups))


def test_an_image_under_two_labels_stays_on_one_side(tmp_path):
    both = pictures(10, 0)
    groups = {"a": np.concatenate([both, pictures(15, 1)]), "b": both, "c": pictures(10, 2)}
    source = load_source(saved(tmp_path / "a.npz", groups))
    train, test = ({bytes(h) for h in s.hashes} for s in (source.train, source.test))
    assert not train & test
    assert "10 images of more than one class" in source.flags
    assert set(source.train.labels.tolist()) == {0, 1, 2}


def test_training_images_among_the_test_images_are_counted(tmp_path):
    train, other = pictures(20, 0), pictures(20, 1)
    saved(tmp_path / "d" / "train.npz", {"a": train[:10], "b": train[10:]})
    # Three copies, one of them twice and one under another label.
    test = {"a": np.concatenate([train[:2], train[:1], other[:5]]), "b": train[2:3]}
    saved(tmp_path / "d" / "test.npz", test)
    source = load_source(f"npz:{tmp_path / 'd'}")
    assert "4 of 9 test images are training images too" in source.flags
    saved(tmp_path / "d" / "test.npz", {"a": other[:10], "b": other[10:]})
    assert not any("too" in flag for flag in load_source(f"npz:{tmp_path / 'd'}").flags)


def test_classes_of_too_few_images_are_named(tmp_path):
    groups = {"a": pictures(20, 1), "few": pictures(4, 2), "fewer": pictures(1, 3)}
    source = load_source(saved(tmp_path / "a.npz", groups))
    assert f"{WITHOUT_TEST}: few, fewer" in source.flags


def test_classes_of_one_half_only_are_named(tmp_path):
    parts = {name: pictures(6, i) for i, name in enumerate("abcd")}
    saved(tmp_path / "d" / "train.npz", {**parts, "c": pictures(0)})
    saved(tmp_path / "d" / "test.npz", {n: pictures(3, 9 + i) for i, n in enumerate("acd")})
    source = load_source(f"npz:{tmp_path / 'd'}")
    assert f"{WITHOUT_TEST}: b" in source.flags
    assert "classes with test images and without training images: c" in source.flags


def test_of_many_names_ten_are_listed(tmp_path):
    few = {f"few{i:02}": pictures(2, i) for i in range(13)}
    source = load_source(saved(tmp_path / "a.npz", {"a": pictures(20, 99), **few}))
    (flag,) = [f for f in source.flags if f.startswith(WITHOUT_TEST)]
    assert flag.endswith("few09 and 3 more") and "few10" not in flag


def test_the_flags_of_a_source_reach_record_and_board(tmp_path):
    train = {name: pictures(8, i) for i, name in enumerate("abcd")}
    saved(tmp_path / "d" / "train.npz", train)
    saved(tmp_path / "d" / "test.npz", {n: x[:4] for n, x in train.items() if n != "d"})
    record = run(
        Request(
            "nmc",
            "class-incremental",
            source=f"npz:{tmp_path / 'd'}",
            scenario_config={"increments": [2]},
            engine="inline",
            out=tmp_path / "out",
        )
    )
    wanted = {f"{WITHOUT_TEST}: d", "12 of 12 test images are training images too"}
    assert wanted <= set(record.result.sources[0].flags)
    assert wanted <= set(run_flags([record]))


@pytest.mark.parametrize(
    ("options", "flagged"),
    [
        ({"validation": 0.1, "score_on": "valid"}, "classes that this stream does not measure: b"),
        ({"validation": 0.2, "score_on": "valid"}, None),
        ({"validation": 0.1, "score_on": "test"}, None),
    ],
)
def test_a_class_of_which_nothing_is_held_out_is_named(tmp_path, options, flagged):
    parts = {"a": pictures(20, 0), "b": pictures(9, 1)}
    saved(tmp_path / "d" / "train.npz", parts)
    saved(tmp_path / "d" / "test.npz", {n: pictures(5, 9 + i) for i, n in enumerate(parts)})
    record = run(
        Request(
            "nmc",
            "class-incremental",
            source=f"npz:{tmp_path / 'd'}",
            scenario_config={"increments": [2], "validation": options["validation"]},
            score_on=options["score_on"],
            engine="inline",
            out=tmp_path / "out",
        )
    )
    found = [f for f in record.result.sources[0].flags if "does not measure" in f]
    assert found == ([flagged] if flagged else [])


@pytest.mark.parametrize("count", [7, 20, 50, 100, 200, 1000])
def test_a_share_is_what_is_written(count):
    # In whole numbers: hundredths of the rows, rounded down.
    for hundredths in range(51):
        rows = np.arange(count)
        train, valid = split_validation(rows, np.zeros(count, int), hundredths / 100)
        assert len(valid) == hundredths * count // 100
        assert len(train) + len(valid) == count


def test_pixels_that_use_little_of_their_range_are_flagged(tmp_path):
    saved(tmp_path / "d" / "train.npz", {n: pictures(8, i) for i, n in enumerate("ab")})
    dark = {n: pictures(8, 9 + i) // 16 for i, n in enumerate("ab")}
    saved(tmp_path / "d" / "test.npz", dark)
    flags = load_source(f"npz:{tmp_path / 'd'}").flags
    assert [f for f in flags if "brighter" in f] == [
        "no pixel of the test images is brighter than 15 of 255"
    ]
    flags = load_source(saved(tmp_path / "dark.npz", dark)).flags
    assert "no pixel of the images is brighter than 15 of 255" in flags


def test_test_images_that_another_domain_trains_on_are_counted(tmp_path):
    parts = {
        name: {n: pictures(10, 10 * i + j) for j, n in enumerate("xy")}
        for i, name in enumerate("abcd")
    }
    parts["d"]["x"][:3] = parts["a"]["y"][:3]
    for name, half in (("a", "train"), ("b", "test"), ("c", "train"), ("d", "test")):
        saved(tmp_path / ("one" if name in "ab" else "two") / f"{half}.npz", parts[name])
    names = [f"npz:{tmp_path / name}" for name in ("one", "two")]
    plan = resolve(
        Request(
            "nmc",
            "domain-incremental",
            source=",".join(names),
            scenario_config={"kind": "sources"},
            engine="inline",
        )
    )
    flags = [[f for f in s.flags if "another" in f] for s in plan.sources]
    assert flags == [[], ["3 test images are training images of another source"]]
