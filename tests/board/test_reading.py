"""What gets on the board, and what is refused: every number is computed again."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save

from clgym.board.page.naming import labels
from clgym.board.page.tables import tables_of
from clgym.board.reading.found import load_runs
from clgym.board.reading.records import read_board
from clgym.errors import BadRecord
from clgym.files import sha256
from clgym.results.online_errors import scores


def _refusals(folder):
    board = read_board(folder)
    return [(left.place, left.reason) for left in board.left_out], board.entries


def test_runs_that_differ_in_seeds_only_are_one_entry(board_folder, write_run):
    for seed in range(3):
        hits = ((9, None), (7, 8 - seed))
        write_run(board_folder / f"records/p/a/seed-{seed}", hits, seed=seed, order_seed=seed)
    write_run(board_folder / "records/p/b/seed-0", config={"lr": 0.2})
    found = {entry.config["lr"]: entry for entry in read_board(board_folder).entries}
    assert [score.seed for score in found[0.1].scores] == [0, 1, 2]
    assert [score.place for score in found[0.2].scores] == ["records/p/b/seed-0"]
    assert found[0.1].verified and not found[0.1].flags


def test_a_seed_left_out_between_others_is_flagged(board_folder, write_run):
    for seed in (0, 1, 3):
        write_run(board_folder / f"records/r/seed-{seed}", ((9, None), (7, 8 - seed)), seed=seed)
    (entry,) = read_board(board_folder).entries
    assert entry.flags == ("seed 2 is missing",)


@pytest.mark.parametrize(
    ("seeds", "flags"),
    [
        ((20, 22, 28), ("seed 0 and others below 28 are missing",)),
        ((12, 13, 14), ("seed 0 and others below 14 are missing",)),
        ((0, 1, 10**12), (f"seed 2 and others below {10**12} are missing",)),
        ((10**12,), ()),
    ],
)
def test_seeds_chosen_out_of_many_are_flagged(board_folder, write_run, seeds, flags):
    for number, seed in enumerate(seeds):
        hits = ((9, None), (7, number))
        write_run(board_folder / f"records/r/seed-{seed}", hits, seed=seed)
    (entry,) = read_board(board_folder).entries
    assert entry.flags == flags


def test_the_same_run_twice_is_shown_once(board_folder, write_run):
    write_run(board_folder / "records/a")
    write_run(board_folder / "records/b")
    write_run(board_folder / "records/c", hits=((9, None), (7, 10)))
    left, (entry,) = _refusals(board_folder)
    assert [score.place for score in entry.scores] == ["records/a"]
    assert left == [
        ("records/b", "the same result again: records/a is shown"),
        ("records/c", "another result for the same run: records/a is shown"),
    ]


@pytest.mark.parametrize("name", ["last_accuracy", "average_incremental_accuracy", "forgetting"])
def test_an_edited_metric_is_refused(board_folder, write_run, edit, name):
    run = write_run(board_folder / "records/a", predictions=False)
    edit(run / "record.json", lambda record: record["result"].update({name: 0.999}))
    left, entries = _refusals(board_folder)
    assert not entries
    assert f"{name} does not follow from the matrix" in left[0][1]


def test_an_edited_matrix_is_refused_by_its_predictions(board_folder, write_run):
    run = write_run(board_folder / "records/a", hits=((9, None), (9, 9)))
    other = write_run(board_folder / "other", hits=((9, None), (7, 8)))
    (run / "record.json").write_bytes(
        (run / "record.json")
        .read_bytes()
        .replace(
            sha256((run / "predictions.safetensors").read_bytes()).encode(),
            sha256((other / "predictions.safetensors").read_bytes()).encode(),
        )
    )
    (run / "predictions.safetensors").write_bytes((other / "predictions.safetensors").read_bytes())
    left, entries = _refusals(board_folder)
    assert not entries
    (place, why), *rest = left
    assert place == "records/a" and not rest
    assert "result.accuracy_matrix[1] does not follow from the predictions" in why


def test_an_experience_that_is_hidden_after_it_was_forgotten_is_refused(board_folder, write_run):
    write_run(board_folder / "records/a", hits=((9, None), (None, 8)))
    left, entries = _refusals(board_folder)
    assert not entries
    assert "accuracy_matrix[1][0] is missing" in left[0][1]


def test_other_predictions_than_the_record_names_are_refused(board_folder, write_run):
    run = write_run(board_folder / "records/a")
    (run / "predictions.safetensors").write_bytes(b"others")
    left, entries = _refusals(board_folder)
    assert not entries
    assert left == [
        (
            "records/a",
            "predictions.safetensors: other content, which does not hash to "
            "result.predictions.sha256",
        )
    ]


def test_an_accuracy_that_no_count_gives_is_refused(board_folder, write_run, edit):
    def change(record):
        record["result"]["accuracy_matrix"][0][0] = 0.93
        record["result"]["accuracy_after"][0] = 0.93

    run = write_run(board_folder / "records/a", predictions=False)
    edit(run / "record.json", change)
    left, entries = _refusals(board_folder)
    assert not entries
    assert (
        "accuracy_matrix[0][0] is no share of 10 test images" in left[0][1]
        or "follow" in left[0][1]
    )


def test_without_predictions_an_entry_is_self_reported(board_folder, write_run):
    write_run(board_folder / "records/a", predictions=False)
    (entry,) = read_board(board_folder).entries
    assert not entry.verified


@pytest.mark.parametrize(
    ("block", "name", "value"),
    [
        ("cost", "wall_seconds", -1.0),
        ("cost", "wall_seconds", 1e300),
        ("cost", "wall_seconds", math.nan),
        ("cost", "images_per_second", math.inf),
        ("result", "parameters", -5),
        ("result", "last_accuracy", 7.0),
        ("result", "accuracy_matrix", [[2.0, None], [0.1, 0.1]]),
        ("result", "accuracy_matrix", []),
        ("result", "class_order", ["a", "a"]),
        ("result", "surprise", 1),
    ],
)
def test_absurd_values_are_refused(board_folder, write_run, edit, block, name, value):
    run = write_run(board_folder / "records/a")
    edit(run / "record.json", lambda record: record[block].update({name: value}))
    left, entries = _refusals(board_folder)
    assert not entries
    assert left[0][0] == "records/a" and left[0][1]


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_an_invalid_record_is_excluded_and_the_others_stay(board_folder, write_run, data):
    write_run(board_folder / "records/good")
    (board_folder / "records/bad").mkdir()
    (board_folder / "records/bad/record.json").write_bytes(data)
    left, entries = _refusals(board_folder)
    assert [place for place, _ in left] == ["records/bad"]
    assert len(entries) == 1


def test_flags_say_what_a_reader_should_know(board_folder, write_run):
    backbone = {
        "name": "vit",
        "weights": "c" * 64,
        "pretraining": ["photos"],
        "licence": "MIT",
        "check": "unverified",
        "width": 8,
        "parameters": 9,
        "overlap": ["toys/1"],
    }
    write_run(
        board_folder / "records/a",
        source="cifar10~1a2b",
        engine="inline",
        backbone=backbone,
        known_failures={"no-labels": "it peeks"},
    )
    (entry,) = read_board(board_folder).entries
    assert entry.flags == (
        "declared failures of checks",
        "gym and learner shared a process",
        "modified source cifar10~1a2b",
        "the pretraining data contain 1 class of the stream",
        "weights could not be compared with known ones",
    )


def test_a_strategy_whose_file_is_not_here_is_flagged(board_folder, write_run):
    run = write_run(board_folder / "records/a")
    assert not read_board(board_folder).entries[0].flags
    (run / "toy.py").write_text("# another one\n")
    (entry,) = read_board(board_folder).entries
    assert entry.flags == ("the strategy's file is missing: the run cannot be repeated",)
    run = write_run(board_folder / "records/a", strategy="nmc", source_hash="a" * 64)
    (entry,) = read_board(board_folder).entries
    assert entry.flags == ("run by another version of the strategy's file",)


def test_only_small_regular_files_of_a_submission_are_read(board_folder, write_run, tmp_path):
    run = write_run(board_folder / "records/a")
    kept = (run / "toy.py").rename(tmp_path / "toy.py")
    (run / "folder.py").mkdir()
    (run / "broken.py").symlink_to(tmp_path / "nowhere")
    (run / "link.py").symlink_to(kept)
    (run / "inside").symlink_to(tmp_path)
    (run / "large.py").write_bytes(b"#" * 2**21)
    (board_folder / "records/outside").symlink_to(tmp_path)
    (entry,) = read_board(board_folder).entries
    assert entry.flags == ("the strategy's file is missing: the run cannot be repeated",)
    kept.rename(run / "folder.py/toy.py")
    assert not read_board(board_folder).entries[0].flags


def test_seeds_that_end_alike_are_flagged_and_have_no_interval(board_folder, write_run):
    for seed in range(2):
        write_run(board_folder / f"records/alike/{seed}", seed=seed, config={"lr": 1.0})
        hits = ((9, None), (7, 8 - seed))
        write_run(board_folder / f"records/spread/{seed}", hits, seed=seed, config={"lr": 2.0})
    (table,) = tables_of(read_board(board_folder))
    alike, spread = sorted(table.rows, key=lambda row: str(row.entry.config["lr"]))
    assert alike.entry.flags == ("all seeds ended at the same accuracy",)
    assert alike.interval is None
    assert not spread.entry.flags and spread.interval is not None


def test_links_are_not_followed(board_folder, write_run):
    outside = write_run(board_folder.parent / "outside")
    (board_folder / "records/link").symlink_to(outside)
    assert not read_board(board_folder).entries


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(BadRecord, match="leaderboards folder"):
        read_board(tmp_path / "nowhere")


def _adapted(folder, write_run):
    """A run over an adaptation stream of two segments, from answers drawn at random."""
    generator = np.random.default_rng(0)
    labels = [generator.integers(0, 4, 30).astype(np.int32) for _ in range(2)]
    answers = [generator.integers(0, 4, 30).astype(np.int32) for _ in range(2)]
    sure = [generator.random(30).astype(np.float32) for _ in range(2)]
    domains = [np.full(30, 5, np.int32), np.full(30, 2, np.int32)]
    parts = {"label": labels, "predicted": answers, "confidence": sure, "domain": domains}
    parts["row"] = [np.arange(30), np.arange(30)]
    data = save({f"{i}/{key}": values[i] for key, values in parts.items() for i in range(2)})
    run = write_run(folder, hits=[[30]], counts=[60])
    (run / "predictions.safetensors").write_bytes(data)
    record = json.loads((run / "record.json").read_text())
    result = record["result"]
    result["scenario"]["setting"] = "adaptation"
    measured = scores(
        ["fog", "snow"], domains, ["-", "-", "snow", "-", "-", "fog"], labels, answers, sure,
        result["class_order"] + ["toys/2", "toys/3"],
    )  # fmt: skip
    errors = [float((a != b).mean()) for a, b in zip(labels, answers, strict=True)]
    mean = (errors[0] + errors[1]) / 2
    assert measured["mean_error"] == pytest.approx(mean)
    accuracy = 1 - measured["mean_error"]
    result.update(
        class_order=[f"toys/{c}" for c in range(4)],
        accuracy_matrix=[[accuracy]],
        accuracy_after=[accuracy],
        task_aware_accuracy_after=[accuracy],
        last_accuracy=accuracy,
        average_incremental_accuracy=accuracy,
        predictions={"file": "predictions.safetensors", "sha256": sha256(data)},
        adaptation={
            **measured,
            "model": {"name": "net", "sha256": "e" * 64},
            "predict": "before",
            "batch_size": 10,
            "reset_each_segment": False,
            "forward_per_image": 1.0,
            "backward_per_image": 0.0,
        },
    )
    (run / "record.json").write_text(json.dumps(record))
    return run


def _from_classifier(edit, run, digest, seed=0):
    """Make an adaptation run one of another seed, from another classifier of the same name."""

    def change(record):
        record["result"]["seed"] = seed
        record["result"]["adaptation"]["model"]["sha256"] = digest

    edit(run / "record.json", change)


def test_classifiers_of_one_name_share_no_table_and_no_mean(board_folder, write_run, edit):
    for name, digest in (("a", "a" * 64), ("b", "b" * 64)):
        for seed in (0, 1):
            run = _adapted(board_folder / f"records/{name}/seed-{seed}", write_run)
            _from_classifier(edit, run, digest, seed)
    board = read_board(board_folder)
    assert not board.left_out and [len(entry.scores) for entry in board.entries] == [2, 2]
    tables = tables_of(board)
    assert [len(table.rows) for table in tables] == [1, 1]
    assert sorted(table.part for table in tables) == [
        "model net (aaaaaaaa)",
        "model net (bbbbbbbb)",
    ]


def test_seeds_of_different_classifiers_are_never_averaged(board_folder, write_run, edit):
    for seed, digest in ((0, "a" * 64), (1, "b" * 64)):
        run = _adapted(board_folder / f"records/net/seed-{seed}", write_run)
        _from_classifier(edit, run, digest, seed)
    assert [len(entry.scores) for entry in read_board(board_folder).entries] == [1, 1]
    methods = load_runs([board_folder / "records/net"])
    assert [len(method.runs) for method in methods] == [1, 1]


def _backbone(name, weights):
    facts = {"name": name, "weights": weights, "pretraining": [], "licence": "", "check": "known"}
    return {**facts, "width": 4, "parameters": 4, "overlap": []}


def test_weights_of_one_name_are_never_averaged(board_folder, write_run):
    for seed in (0, 1):
        backbone = _backbone("vit", str(seed) * 64)
        write_run(board_folder / f"records/r/seed-{seed}", seed=seed, backbone=backbone)
    assert [len(entry.scores) for entry in read_board(board_folder).entries] == [1, 1]


def test_a_subtitle_says_what_acts(board_folder, write_run, edit):
    """The preset names a network, a memory and delta; each row says what it made of them."""

    def preset(record):
        options = {"network": "mlp", "memory_size": 500, "delta": 0.1, "order": "iid"}
        record["result"]["scenario"]["config"].update(options, increments=[2])
        record["result"]["stored_samples"] = stored

    stored = 0
    backbone = _backbone("vit_tiny@sha256:" + "c" * 64, "c" * 64)
    over = write_run(board_folder / "records/over", strategy="nmc", backbone=backbone)
    edit(over / "record.json", preset)

    def about():
        (table,) = tables_of(read_board(board_folder))
        return table.about

    plain = "class-incremental; toys; increments 2; order iid; "
    assert about() == plain + "backbone vit_tiny (cccccccc)"

    config = {"network": "resnet18", "memory_size": 20}
    # An SGD strategy over a backbone has the option too; it does nothing there.
    also = write_run(
        board_folder / "records/also", strategy="clr", config=config, backbone=backbone
    )
    edit(also / "record.json", preset)
    assert about() == plain + "backbone vit_tiny (cccccccc)"

    stored = 20
    wrapped = {f"base.{name}": value for name, value in config.items()}
    replay = write_run(board_folder / "records/replay", strategy="refresh", config=wrapped)
    edit(replay / "record.json", preset)
    acting = "backbone vit_tiny (cccccccc); network resnet18; memory size 20"
    assert about() == plain + acting


def test_rows_stand_in_the_order_of_their_mean(board_folder, write_run):
    """A method varies much, another is steady: their ranks alone would turn them round."""
    hits = {"steady": (10, 10), "wild": (1, 20), "better": (12, 12)}
    for name, seeds in hits.items():
        for seed, right in enumerate(seeds):
            run = board_folder / f"records/{name}/seed-{seed}"
            write_run(run, hits=[[right]], counts=[20], seed=seed, strategy=name)
    (table,) = tables_of(read_board(board_folder))
    assert [row.entry.strategy for row in table.rows] == ["better", "wild", "steady"]
    cells = [(row.cells["rank"].text, row.cells["group"].text) for row in table.rows]
    assert cells == [("1–2", "a"), ("1–3", "ab"), ("2–3", "b")]
    assert [row.cells["rank"].value for row in table.rows] == [1, 2, 3]


def test_adaptation_streams_are_verified_too(board_folder, write_run):
    _adapted(board_folder / "records/a", write_run)
    left, entries = _refusals(board_folder)
    assert not left
    assert entries[0].adaptation and entries[0].verified


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts["segments"][0].update(calibration_error=0.0), "predictions"),
        (lambda facts: facts.update(mean_error=0.01), "mean error"),
        (lambda facts: facts["per_class"].update({"toys/0": 0.0}), "predictions"),
        (lambda facts: facts["segments"][0].update(error=7.0), "outside 0 to 1"),
    ],
)
def test_an_edited_adaptation_record_is_refused(board_folder, write_run, edit, change, reason):
    run = _adapted(board_folder / "records/a", write_run)
    edit(run / "record.json", lambda record: change(record["result"]["adaptation"]))
    left, entries = _refusals(board_folder)
    assert not entries
    assert reason in left[0][1]


def test_options_that_an_earlier_version_lacked_name_no_row(board_folder, write_run):
    for name, config in (("a", {"lr": 0.1}), ("b", {"lr": 0.1, "new": 3}), ("c", {"lr": 0.2})):
        write_run(board_folder / "records" / name, config=config)
    named = labels(read_board(board_folder).entries)
    assert sorted(label.partition(" #")[0] for label in named) == ["lr 0.1", "lr 0.1", "lr 0.2"]
    assert len(set(named)) == 3
