"""The glossary explains every metric of a record, and is reached from the first page."""

import re
from pathlib import Path

import pytest

from clgym.results.record import AdaptationFacts, AnytimeFacts, LearningResult, SegmentFacts
from clgym.results.result import RunFacts

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
ENTRIES = re.findall(r"(?m)^- \*\*(.+?)\*\*(.*?): (.*(?:\n  .*)*)", PAGE)
NOT_METRICS = {
    # What was measured on, not what was measured.
    *("kind", "name", "images", "model", "predict", "batch_size", "reset_each_segment", "segments"),
}
METRICS = sorted(
    {
        field
        for block in (LearningResult, AnytimeFacts, AdaptationFacts, SegmentFacts)
        for field in block.model_fields
    }
    - {*RunFacts.model_fields, *NOT_METRICS}
)


@pytest.mark.parametrize("field", METRICS)
def test_every_metric_of_a_record_is_explained(field):
    assert f"`{field}`" in PAGE


def test_there_are_metrics_to_explain():
    assert {"last_accuracy", "forgetting", "mean_error", "recovery"} <= set(METRICS)


def test_a_term_is_explained_once_in_one_or_two_sentences():
    assert len(ENTRIES) == PAGE.count("\n- ")
    assert 40 <= len(ENTRIES) <= 60
    terms = [term.lower() for term, _, _ in ENTRIES]
    assert len(set(terms)) == len(terms)
    for term, _, text in ENTRIES:
        words = " ".join(text.split())
        assert words.endswith("."), term
        assert 1 <= len(re.findall(r"\.(?= [A-Z`]|$)", words.replace("et al.", "et al"))) <= 2, term


def test_it_is_linked_from_the_navigation_and_the_first_page():
    assert '"Glossary" = "glossary.md"' in (ROOT / ".ci/site/zensical.toml").read_text()
    assert "(glossary.md)" in (ROOT / "docs" / "index.md").read_text()
