"""The papers' files: they load, name only what there is, and say where each number stands."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clgym import config as configs
from clgym import registry
from clgym.config import Field
from clgym.errors import BadRecord, UnknownName
from clgym.gym.request import scenario_fields
from clgym.learner.assembly import config_fields, strategy_class
from clgym.papers import Paper, load_paper, paper_names
from clgym.protocol.modes import MODES
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import evaluation_seeds
from clgym.protocol.space import find_space

PAPERS = (
    *("aper", "clr", "coda-prompt", "dst", "dualprompt", "ease", "l2p", "lame", "mos", "nmc"),
    *("protocol", "ranpac", "refresh", "rmt", "slca", "dynamic-ema", "infinite-lr", "ssd"),
)


@cache
def fields_of(strategy: str, base: str | None) -> list[Field]:
    """Options of a strategy, read in this process: no worker is needed for a look at them."""
    return config_fields(strategy_class(strategy), {"base": base} if base else {})


@cache
def options_of(scenario: str) -> list[Field]:
    return scenario_fields(scenario)


def check_options(strategy: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return configs.resolve(fields_of(strategy, config.get("base")), config, strategy)


def claims(paper: Paper) -> Iterator[Any]:
    return (claim for row in paper.rows for claim in row.claims)


def test_every_paper_has_its_file() -> None:
    assert set(PAPERS) <= set(paper_names())


@pytest.mark.parametrize("name", PAPERS)
def test_runs_name_strategies_scenarios_and_options_that_there_are(name: str) -> None:
    paper = load_paper(name)
    for strategy in paper.strategies:
        registry.find("strategies", strategy)
    for label, run in paper.runs.items():
        assert run.seeds, label
        check_options(run.strategy, run.config)
        given = {**run.stream, **({} if run.source is None else {"source": run.source})}
        values = configs.resolve(options_of(run.scenario), given, label)
        assert values["source"], label


def test_oracles_that_are_compared_with_evaluations_have_their_seeds() -> None:
    """Else the regret would be over other class orders."""
    studies = load_paper("protocol").studies.items()
    oracles = [study for name, study in studies if name.endswith("-oracle")]
    assert oracles
    for study in oracles:
        assert study.seeds is not None
        derived = evaluation_seeds(find_pair(study.pair), len(study.seeds))
        assert set(study.seeds) == set(derived)


EXPERIMENTS = sorted((Path(__file__).parents[2] / "leaderboards/experiments").glob("*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_name_strategies_scenarios_and_options_that_there_are(path: Path) -> None:
    content = tomllib.loads(path.read_text())
    runs = [{**content["defaults"], **run} for run in content["runs"]]
    assert len({run["name"] for run in runs}) == len(runs)
    for run in runs:
        registry.find("strategies", run["strategy"])
        check_options(run["strategy"], run["options"])
        configs.resolve(options_of(run["scenario"]), run.get("scenario_options", {}), run["name"])


@pytest.mark.parametrize("name", PAPERS)
def test_studies_name_pairs_with_something_to_tune(name: str) -> None:
    for label, study in load_paper(name).studies.items():
        find_pair(study.pair, config=study.stream)
        assert study.mode in MODES, label
        check_options(study.strategy, study.config)
        if study.mode == "default":
            continue
        space = find_space(study.strategy, study.space, fields_of(study.strategy, None))
        tuned = {parameter.name for parameter in space.parameters}
        assert tuned - study.config.keys(), label


@pytest.mark.parametrize("name", PAPERS)
def test_claims_say_where_they_stand_and_belong_to_runs_of_their_kind(name: str) -> None:
    paper = load_paper(name)
    assert {row.scale for row in paper.rows} >= {"full"}
    for claim in claims(paper):
        assert claim.where.strip(), claim
        if claim.known == "remembered" and claim.value is not None:
            assert claim.tolerance >= 1, claim
        for about in claim.about:
            assert (about in paper.studies) == bool(claim.ranks) or claim.better, claim
            if about in paper.runs:
                adapts = claim.measure in ("mean_error", "pooled_error")
                assert adapts == _adapts(paper.runs[about].scenario), claim


def _adapts(scenario: str) -> bool:
    """Whether a scenario brings unlabelled batches: it then names a classifier to adapt."""
    return "model" in {field.name for field in options_of(scenario)}


@pytest.mark.parametrize("name", PAPERS)
def test_rows_of_the_papers_size_want_a_gpu(name: str) -> None:
    assert all(row.device == "cuda" for row in load_paper(name).rows if row.scale == "full")


# Read once more from the papers' tables and logs, not from the files.
STATED = [
    ("nmc", "cifar100", "nmc", "last_accuracy", 83.70, 0.3, "abstract"),
    ("aper", "cifar-inc5", "cifar-inc5-simplecil", "last_accuracy", 81.28, 0.1, "log"),
    ("aper", "cifar-inc5", "cifar-inc5-vpt-shallow", "last_accuracy", 81.80, 0.5, "log"),
    ("aper", "vtab-inc10", "vtab-inc10-adapter", "last_accuracy", 84.35, 0.5, "log"),
    (
        "aper",
        "imagenet-r-inc20",
        "imagenet-r-inc20-vpt-deep",
        "average_incremental_accuracy",
        77.05,
        1.0,
        "verified",
    ),
    ("mos", "imagenet-a", "imagenet-a", "last_accuracy", 56.22, 1.0, "log"),
    ("ease", "cifar-inc5", "cifar-inc5", "last_accuracy", 85.80, 1.0, "verified"),
    ("slca", "imagenet-a-inc20", "imagenet-a-inc20", "last_accuracy", 58.74, 1.0, "verified"),
    ("l2p", "vtab-inc10", "vtab-inc10", "last_accuracy", 77.10, 1.0, "verified"),
    ("ranpac", "cifar", "cifar-frozen", "last_accuracy", 89.0, 1.0, "log"),
    ("coda-prompt", "cifar-inc10", "cifar-inc10", "last_accuracy", 86.8, 1.5, "inferred"),
    (
        "refresh",
        "cifar100-derpp",
        "cifar100-derpp",
        "task_aware_accuracy",
        75.64,
        1.5,
        "remembered",
    ),
    ("rmt", "imagenet-c-rmt", "imagenet-c-rmt", "mean_error", 59.9, 1.0, "verified"),
    ("lame", "sorted-sketch-swin", "sorted-sketch-swin-lame", "mean_error", 58.2, 2.0, "verified"),
    ("clr", "growth", "resnet50", "growth_percent", 0.547, 0.0005, "inferred"),
    ("dst", "high-sparsity", "uniform-95", "forgetting", 0.0, 0.0, "inferred"),
]


@pytest.mark.parametrize(("name", "row", "run", "measure", "value", "tolerance", "known"), STATED)
def test_numbers_are_the_stated_ones(
    name: str, row: str, run: str, measure: str, value: float, tolerance: float, known: str
) -> None:
    found = load_paper(name).by_row[row].claims
    (claim,) = [c for c in found if c.of == run and c.measure == measure]
    assert (claim.value, claim.tolerance, claim.known) == (value, tolerance, known)


# --- the form ------------------------------------------------------------------------------------

HEAD = """
title = "A paper"
authors = "Somebody"
venue = "Nowhere"
year = 2020
link = "https://example.org"
strategies = ["nmc"]
"""
RUNS = """
[runs.one]
strategy = "nmc"
scenario = "split-digits"
config = { batch_size = 8, fit = "crop" }

[runs.two]
like = "one"
config = { fit = "stretch" }
"""


def row(claim: str) -> str:
    return f"""
[[rows]]
name = "row"
scale = "lite"
about = "Two."
hours = 0.1
claims = [{{ {claim}, where = "table", known = "verified" }}]
"""


ORDER = 'better = "one", worse = "two", measure = "last_accuracy"'


def written(folder: Path, text: str) -> Path:
    (folder / "paper.toml").write_text(text)
    return folder


def test_a_run_like_another_takes_its_options_over_one_by_one(tmp_path: Path) -> None:
    paper = load_paper("paper", written(tmp_path, HEAD + RUNS + row(ORDER)))
    assert paper.runs["two"].config == {"batch_size": 8, "fit": "stretch"}
    assert paper.runs["two"].strategy == "nmc"
    assert paper.by_row["row"].wanted == ("one", "two")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RUNS + row('of = "one", measure = "last_accuracy"'), "needs its `value`"),
        (RUNS + row('of = "one", worse = "two", measure = "last_accuracy"'), "`better`"),
        (RUNS + row('better = "one", worse = "two", measure = "luck"'), "no measure 'luck'"),
        (RUNS + row('better = "one", worse = "six", measure = "forgetting"'), "row row names six"),
        (RUNS + row('of = "one", value = 1, measure = "forgetting"'), "no row names two"),
        (RUNS + row(ORDER) + row(ORDER), "two rows have the name row"),
        (RUNS.replace('"one"', '"two"') + row(ORDER), "does not exist or leads in a circle"),
        (RUNS + row(ORDER).replace('"verified"', '"certain"'), "known"),
        (RUNS + "[rows", "paper.toml"),
    ],
)
def test_a_file_that_does_not_validate_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        load_paper("paper", written(tmp_path, HEAD + text))
    assert reason in str(caught.value)


def test_an_unknown_paper_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        load_paper("papr", written(tmp_path, HEAD))
    assert "paper" in caught.value.fix
