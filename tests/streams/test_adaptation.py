"""Adaptation streams as plans: what arrives, in which order, and what is refused."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import RandomState

from clgym import api
from clgym.data.corruptions import EXTRA, STANDARD, corrupt, corrupt_rows
from clgym.data.sources import load_source
from clgym.errors import BadStream, ClgymError, MissingData, UnknownName
from clgym.results.stored import open_run
from clgym.streams import orders
from clgym.streams.adaptation import AdaptationStream, Domain


def make_scenario(name, **options) -> AdaptationStream:
    made = api.make_scenario(name, **options)
    assert isinstance(made, AdaptationStream)
    return made


@pytest.mark.parametrize("order", ["iid", "sorted", "dirichlet"])
@pytest.mark.parametrize("arrival", ["withheld", "published"])
def test_every_corruption_shows_the_same_images_in_one_order_if_published(order, arrival):
    options = {"images": 300, "delta": 5.0, "order": order, "arrival": arrival}
    stream = make_scenario("digits-c", **options)
    assert len(stream) == 14
    first = stream.segments[0].row
    for segment in stream.segments[1:]:
        assert sorted(segment.row) == sorted(first)
        assert np.array_equal(segment.row, first) == (arrival == "published")
    assert len(np.unique(first)) == 300


def test_the_published_order_is_that_of_the_code_before():
    """Digest and rows as the version before `arrival` had them."""
    stream = make_scenario("digits-c", images=50, arrival="published")
    np.testing.assert_array_equal(stream.segments[3].row, orders.shuffled(360, 1, 50))
    assert stream.digest == "2805d13e931dae85050f42f91a0fe22492671b5f86d41c444e6ad2eef881590a"


def test_gradual_streams_climb_and_descend():
    stream = make_scenario("digits-c-gradual", corruptions="fog,contrast", images=20)
    names = [segment.name for segment in stream.segments]
    assert names[:9] == [f"fog-{s}" for s in (1, 2, 3, 4, 5, 4, 3, 2, 1)]
    assert len(names) == 18


def test_mixed_streams_hold_every_domain_once_and_shuffled():
    stream = make_scenario("digits-c-mixed", images=30)
    (segment,) = stream.segments
    pairs = set(zip(segment.domain.tolist(), segment.row.tolist(), strict=True))
    assert len(pairs) == len(segment.row) == 14 * 30
    assert len(np.unique(segment.domain[:30])) > 5


def test_a_probe_of_clean_images_follows_every_corruption():
    stream = make_scenario("digits-c", images=20, corruptions="fog,contrast", probe=True)
    assert [s.name for s in stream.segments] == ["fog-5", "clean", "contrast-5", "clean"]


SHORT = {"images": 50, "corruptions": "fog,contrast", "batch_size": 32}


@pytest.mark.parametrize(
    ("name", "options"), [("digits-c", {"arrival": "published"}), ("digits-c-reset", {})]
)
def test_where_segments_are_told_apart_the_last_batch_of_each_is_short(name, options):
    stream = make_scenario(name, **SHORT, **options)
    sizes = [p.stop - p.start for batch in stream.batches() for _, p in batch]
    assert sizes == [32, 18, 32, 18]


@pytest.mark.parametrize("batch_size", [1, 7, 32, 50, 64, 99, 100, 101])
def test_batches_run_over_the_ends_of_segments(batch_size):
    stream = make_scenario("digits-c", **{**SHORT, "batch_size": batch_size})
    batches = stream.batches()
    sizes = [sum(p.stop - p.start for _, p in batch) for batch in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1) and 0 < sizes[-1] <= batch_size
    places = [(s, i) for batch in batches for s, p in batch for i in range(p.start, p.stop)]
    assert places == [(s, i) for s in range(2) for i in range(50)]


def test_digests_tell_plans_apart_and_are_repeatable():
    made = [
        make_scenario("digits-c", images=20),
        make_scenario("digits-c", images=20),
        make_scenario("digits-c", images=21),
        make_scenario("digits-c", images=20, severity=4),
        make_scenario("digits-c", images=20, batch_size=8),
        make_scenario("digits-c", images=20, order_seed=5),
        make_scenario("digits-c-reset", images=20),
    ]
    assert made[0] == made[1]
    assert len({stream.digest for stream in made}) == len(made) - 1


def test_label_shift_streams_group_classes_in_order_of_appearance():
    labels = load_source("digits").test.labels
    (segment,) = make_scenario("label-shift-digits").segments
    own = labels[segment.row]
    changes = np.flatnonzero(np.diff(own)) + 1
    assert len(changes) == 9  # ten runs of ten classes
    shuffled = orders.shuffled(len(labels), 1)
    first = list(dict.fromkeys(labels[shuffled].tolist()))
    assert [int(own[0]), *own[changes].tolist()] == first


def test_a_zipf_prior_draws_with_replacement_and_skews_the_classes():
    labels = load_source("digits").test.labels
    (segment,) = make_scenario(
        "label-shift-digits", order="iid", prior="zipf", order_seed=2
    ).segments
    counts = np.bincount(labels[segment.row], minlength=10)
    assert counts.max() > 2 * np.bincount(labels).max()
    assert counts.max() < 0.9 * counts.sum()
    assert len(np.unique(segment.row)) < len(segment.row)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_zipf_ends_with_few_classes(classes):
    """The published rule never ends below ten classes: ten percent of them is none."""
    assert orders.zipf_counts(classes, 1000, 0).shape == (classes,)


def test_dirichlet_order_is_a_permutation_and_more_grouped_as_delta_falls():
    labels = np.repeat(np.arange(10), 60)
    plain = orders.shuffled(600, 0)

    def repeats(delta):
        order = orders.dirichlet(plain, labels, delta, 0)
        assert sorted(order) == list(range(600))
        return (np.diff(labels[order]) == 0).mean()

    shuffled = (np.diff(labels[plain]) == 0).mean()
    assert repeats(0.1) > repeats(100.0) > shuffled


def test_an_impossible_dirichlet_order_ends_with_an_error():
    labels = np.repeat(np.arange(10), 2)
    with pytest.raises(BadStream, match="chunks of a Dirichlet order"):
        orders.dirichlet(np.arange(20), labels, 0.1, 0)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"corruptions": "gausian_noise"}, UnknownName, "gaussian_noise"),
        ({"severity": 6}, ClgymError, "at most 5"),
        ({"batch_size": 0}, ClgymError, "at least 1"),
        ({"published": "CIFAR-10-C"}, MissingData, "CIFAR-10-C"),
    ],
)
def test_bad_options_are_named(options, error, says, monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    with pytest.raises(error, match=says):
        make_scenario("digits-c", **options)


# --- corruptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (96, 96, 3)])
@pytest.mark.parametrize("name", [n for n in (*STANDARD, *EXTRA) if n != "frost"])
def test_corruptions_keep_shape_and_type_at_any_size(name, shape):
    image = RandomState(0).randint(0, 256, shape).astype(np.uint8)
    made = corrupt(image, name, 5, RandomState(1))
    assert made.shape == shape
    assert made.dtype == np.uint8
    smaller_than_a_pixel = name == "defocus_blur" and shape[0] == 8
    assert (made != image).any() != smaller_than_a_pixel


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "snow", "fog"])
def test_a_row_s_pixels_depend_on_its_number_alone(name):
    images = RandomState(0).randint(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    rows = np.arange(6)
    whole = corrupt_rows(images, rows, name, 3, 7)
    backwards = corrupt_rows(images[::-1], rows[::-1], name, 3, 7)[::-1]
    np.testing.assert_array_equal(whole, backwards)
    assert (corrupt_rows(images, rows, name, 3, 8) != whole).any()


def test_severity_grows():
    image = RandomState(0).randint(60, 200, (32, 32, 3)).astype(np.uint8)
    for name in ("gaussian_noise", "contrast", "brightness", "pixelate", "speckle_noise"):
        change = [
            np.abs(corrupt(image, name, s, RandomState(0)).astype(float) - image).mean()
            for s in (1, 3, 5)
        ]
        assert change == sorted(change), name


def through_hsv(pixel, change):
    """The published way of one pixel, value by value: scikit-image's rgb2hsv and hsv2rgb."""
    r, g, b = (level / 255.0 for level in pixel)
    v, spread = max(r, g, b), max(r, g, b) - min(r, g, b)
    h = s = 0.0
    if spread:
        s = spread / v
        h = (g - b) / spread
        h = 2 + (b - r) / spread if g == v else h
        h = 4 + (r - g) / spread if b == v else h
        h = h / 6 % 1
    s, v = change(s, v)
    sector = math.floor(h * 6)
    f = h * 6 - sector
    p, q, t = v * (1 - s), v * (1 - f * s), v * (1 - (1 - f) * s)
    rgb = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][sector % 6]
    return [int(min(max(level, 0), 1) * 255) for level in rgb]


BRIGHTER, MORE_COLOUR = (
    (0.05, 0.1, 0.15, 0.2, 0.3),
    ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_colours_change_through_hsv(name, severity):
    """Grey, black, white and one channel at its end are among the pixels."""
    image = RandomState(1).randint(0, 256, (48, 48, 3)).astype(np.uint8)
    image[0] = np.arange(48)[:, None] * 5
    image[1, :, 0], image[2, :, 1], image[3, :, 2], image[4, 0] = 255, 0, 255, 255
    lift, (factor, plus) = BRIGHTER[severity - 1], MORE_COLOUR[severity - 1]
    changes = {
        "brightness": lambda s, v: (s, min(v + lift, 1)),
        "saturate": lambda s, v: (min(s * factor + plus, 1), v),
    }
    wanted = [through_hsv(pixel, changes[name]) for pixel in image.reshape(-1, 3).tolist()]
    made = corrupt(image, name, severity, RandomState(0))
    np.testing.assert_array_equal(made.reshape(-1, 3), wanted)
    before = corrupt(image, name, severity, RandomState(0), hsv="scaled").astype(int)
    assert 0 < (before != made).mean() < 0.05 and np.abs(before - made).max() == 1


@pytest.mark.parametrize("name", ["brightness", "saturate"])
def test_grey_images_are_the_same_either_way(name):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    for severity in (1, 3, 5):
        exact = corrupt(image, name, severity, RandomState(0))
        scaled = corrupt(image, name, severity, RandomState(0), hsv="scaled")
        np.testing.assert_array_equal(exact, scaled)


def test_only_what_changed_has_another_digest():
    exact = Domain("a", 0, "test", "brightness", 5)
    scaled = replace(exact, hsv="scaled")
    old = {k: v for k, v in asdict(scaled).items() if k != "hsv"}
    assert scaled.facts() == old and exact.facts() == {**old, "hsv": "exact"}
    for same in (replace(exact, corruption="fog"), replace(exact, published="CIFAR-10-C")):
        assert "hsv" not in same.facts()
    grey = [make_scenario("digits-c", images=20, hsv=h).digest for h in ("exact", "scaled")]
    assert grey[0] == grey[1]


def test_old_names_are_the_streams_of_committed_records():
    """And their new versions are others."""
    records = Path(__file__).parents[2] / "leaderboards" / "records"
    found = [open_run(p).result for p in records.glob("*-cifar10-c-*/seed-0/record.json")]
    assert found
    for result in found:
        try:
            stream = make_scenario("cifar10-c", **result.scenario.config)
        except MissingData:
            pytest.skip("CIFAR-10 is not in CLGYM_DATA")
        if stream.fingerprints[0] != result.sources[0].fingerprint:
            pytest.skip("CLGYM_DATA has another part of CIFAR-10")
        assert stream.digest == result.scenario.digest
        new = make_scenario("cifar10-c-v2", **result.scenario.config)
        assert new.digest != result.scenario.digest


def test_impulse_noise_hits_single_channels_half_white_half_black():
    image = np.full((32, 32, 3), 100, np.uint8)
    made = corrupt_rows(np.repeat(image[None], 50, 0), np.arange(50), "impulse_noise", 5, 0)
    white, black = (made == 255).mean(), (made == 0).mean()
    assert white == pytest.approx(0.035, abs=0.003)
    assert black == pytest.approx(0.035, abs=0.003)
    hit = made != 100
    assert (hit.any(-1) & ~hit.all(-1)).mean() > 0.15


def test_motion_blur_smears_one_way_and_keeps_the_mean():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16] = 255
    made = corrupt(image, "motion_blur", 3, RandomState(0)).astype(float)
    assert made[..., 0].sum() == pytest.approx(255 * 32, rel=0.05)
    assert made[:, :15].sum() < 0.05 * made.sum() or made[:, 18:].sum() < 0.05 * made.sum()


@pytest.mark.parametrize(
    ("name", "severity", "shape", "error", "says"),
    [
        ("defocus", 1, (32, 32, 3), UnknownName, "defocus_blur"),
        ("fog", 0, (32, 32, 3), BadStream, "from 1 to 5"),
        ("fog", 1, (32, 30, 3), BadStream, "square"),
        ("frost", 1, (32, 32, 3), MissingData, "texture photographs"),
    ],
)
def test_images_that_cannot_be_corrupted_are_refused(name, severity, shape, error, says):
    with pytest.raises(error, match=says):
        corrupt(np.zeros(shape, np.uint8), name, severity, RandomState(0))


def test_published_files_are_read_by_severity(tmp_path):
    generator = RandomState(0)
    folder = tmp_path / "DIGITS-C"
    folder.mkdir()
    labels = np.tile(np.arange(10), 4)
    images = generator.randint(0, 255, (5 * 40, 8, 8, 1)).astype(np.uint8)
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", np.tile(labels, 5))
    from clgym.gym.images import StreamImages

    options = {"corruptions": "fog", "published": "DIGITS-C", "severity": 4}
    stream = make_scenario("digits-c", data_root=tmp_path, **options)
    (segment,) = stream.segments
    assert len(segment.row) == 40
    shown = StreamImages(stream, [load_source("digits")], tmp_path, 1)
    np.testing.assert_array_equal(shown.gather(0, slice(0, 5)), images[3 * 40 + segment.row[:5]])
    np.save(folder / "labels.npy", np.sort(np.tile(labels, 5)))
    with pytest.raises(ClgymError, match="same labels"):
        make_scenario("digits-c", data_root=tmp_path, **options)
