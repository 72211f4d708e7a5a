"""The page and the Markdown board: the same content, escaped, the same bytes each time."""

import html
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clgym.board.page.render import render
from clgym.board.reading.records import read_board
from clgym.cli import main
from clgym.errors import BadOutput, BadRecord
from clgym.papers import load_paper
from clgym.papers.reproduce import Reproduction
from clgym.papers.status import ClaimStatus, PaperStatus, RowStatus, read_status, write_status

EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>|*_`'


class _Rows(HTMLParser):
    """Texts of all table rows, and of every script that a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self._open = self._script = False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True
        self._script = tag == "script" and ("type", "application/json") not in attrs
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")
        self._script = False

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data
        if self._script:
            self.scripts[-1] += data


def _page(folder: Path, out: Path) -> tuple[str, _Rows]:
    render(folder, out)
    text = (out / "index.html").read_text()
    rows = _Rows()
    rows.feed(text)
    return text, rows


def _markdown_rows(text: str) -> list[list[str]]:
    cells = [
        re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in text.splitlines() if line[:1] == "|"
    ]
    return [[html.unescape(re.sub(r"\\(.)", r"\1", cell)) for cell in row] for row in cells]


def _bare(cells: list[str]) -> list[str]:
    """Without what only separates: spaces, and the semicolons between flags."""
    return [re.sub(r"[\s;]+", "", cell) for cell in cells]


@pytest.fixture
def filled(board_folder, write_run):
    """Two streams, entries with one and with three seeds, flags, a refusal, a paper's claims."""
    for name, right in (("weak", 2), ("strong", 9)):
        for seed in range(3):
            run = board_folder / f"records/{name}/seed-{seed}"
            write_run(run, hits=((9, None), (right, 8 - seed)), seed=seed, strategy=name)
    write_run(board_folder / "records/one", strategy="single", source_flags=["a | b"])
    write_run(board_folder / "records/other", scenario="split-other", strategy="strong")
    (board_folder / "records/bad").mkdir()
    (board_folder / "records/bad/record.json").write_text("{}")
    claim = ClaimStatus(
        claim="a beats b", claimed="81.3", measured="81.0", tolerance="0.5",
        verdict="reproduced", where="table 1", known="verified",
    )  # fmt: skip
    row = RowStatus(row="main", scale="lite", about="small", claims=(claim,))
    status = PaperStatus(paper="paper", title="A paper", link="https://example.org", rows=(row,))
    write_status(board_folder / "status/paper.json", status)
    return board_folder


def test_the_markdown_board_has_the_rows_of_the_page(filled, tmp_path):
    _, page = _page(filled, tmp_path / "site")
    text = (filled / "README.md").read_text()
    rule = {"---", "--:"}
    found = [_bare(row) for row in _markdown_rows(text) if not set(row) <= rule]
    assert found == [_bare(row) for row in page.rows]
    # The overview, two tables, how many claims were tested, the claims, what was left out.
    assert len(found) == (1 + 3) + 2 + 3 + 1 + 2 + 2 + 2


def test_equal_folders_give_equal_bytes(filled, tmp_path):
    first, _ = _page(filled, tmp_path / "one")
    markdown = (filled / "README.md").read_bytes()
    second, _ = _page(filled, tmp_path / "two")
    assert first == second
    assert (filled / "README.md").read_bytes() == markdown


def test_nothing_is_loaded_from_elsewhere(filled, tmp_path):
    text, page = _page(filled, tmp_path / "site")
    assert not {"iframe", "img", "object"} & {*page.tags}
    links = r"(?!#|data:|board\.csv\"|https://example\.org|https://arxiv\.org/abs/)"
    assert re.findall(rf'(?:src|href)="{links}', text) == []
    assert "url(http" not in text and "@import" not in text


def test_means_and_ranks_are_those_of_the_seeds(filled, tmp_path):
    _, page = _page(filled, tmp_path / "site")
    rows = {row[1].split()[0]: row for row in page.rows if "verified" in row[-2]}
    # Right answers of 20 after the last experience: 9 + 8 - seed, and 2 + 8 - seed.
    assert rows["weak"][3].startswith("45.00 [40.00, 50.00]")
    assert rows["single"][0] == "–" and rows["single"][7] == "1"
    assert rows["single"][2:4] == ["untuned", "75.00"]


def test_text_from_records_is_never_markup(board_folder, write_run, tmp_path):
    write_run(
        board_folder / "records/a",
        strategy=EVIL,
        config={EVIL: EVIL},
        source=EVIL,
        source_flags=[EVIL],
        scenario=EVIL,
        known_failures={EVIL: EVIL},
    )
    write_run(board_folder / "records/b", scenario=EVIL, strategy="plain", source=EVIL)
    text, page = _page(board_folder, tmp_path / "site")
    assert len(page.scripts) == 1 and "alert" not in page.scripts[0]
    assert "img" not in page.tags
    assert any(EVIL in cell for row in page.rows for cell in row)
    data = re.search(r'id="board-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert EVIL in {
        entry["title"].rpartition(" #")[0] or entry["title"]
        for entry in json.loads(data[1]).values()
    }
    assert "<script" not in (board_folder / "README.md").read_text()


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://a>\\n\\n<script>alert(1)</script>", "https://a b"]
)
def test_a_status_whose_link_is_no_address_is_left_out(filled, tmp_path, link):
    file = filled / "status/paper.json"
    file.write_text(file.read_text().replace("https://example.org", link))
    text, _ = _page(filled, tmp_path / "site")
    for page in (text, (filled / "README.md").read_text()):
        assert "alert(1)" not in page and "A paper" not in page
        assert "status/paper" in page


def test_a_foreign_readme_is_not_overwritten(board_folder, tmp_path):
    (board_folder / "README.md").write_text("# My thesis\n")
    with pytest.raises(BadOutput, match="a different text"):
        render(board_folder, tmp_path / "site")
    assert (board_folder / "README.md").read_text() == "# My thesis\n"
    assert not (tmp_path / "site").exists()


def test_a_folder_without_a_board_is_refused(tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(BadRecord, match="without records/ and status/"):
        render(tmp_path / "thesis", tmp_path / "site")
    assert not list((tmp_path / "thesis").iterdir())


def test_an_empty_board_says_so(board_folder, tmp_path, capsys):
    assert main(["board", str(board_folder), "--out", str(tmp_path / "site")]) == 0
    assert "0 entries of 0 runs" in capsys.readouterr().out
    assert "This board is empty" in (tmp_path / "site/index.html").read_text()
    assert "This board is empty" in (board_folder / "README.md").read_text()


def test_a_missing_folder_is_a_named_error(tmp_path, capsys):
    assert main(["board", str(tmp_path / "nowhere"), "--out", str(tmp_path / "site")]) == 2
    assert capsys.readouterr().err.startswith("error: cannot use the record: ")
    assert not (tmp_path / "site").exists()


def test_figures_come_where_the_data_allow_them(filled, tmp_path):
    text, _ = _page(filled, tmp_path / "site")
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert titles == [
        "Accuracy at any time",
        "Forgetting",
        "Accuracy against cost, tuning included",
    ]


@pytest.mark.slow
def test_five_thousand_records_in_a_minute(board_folder, write_run, tmp_path):
    template = (write_run(tmp_path / "template", predictions=False) / "record.json").read_text()
    for number in range(5000):
        folder = board_folder / f"records/{number}"
        folder.mkdir()
        changed = template.replace('"lr": 0.1', f'"lr": {number // 5}.5')
        changed = changed.replace('"seed": 0', f'"seed": {number % 5}')
        (folder / "record.json").write_text(changed)
    started = time.process_time()
    render(board_folder, tmp_path / "site")
    assert time.process_time() - started < 60
    assert len(read_board(board_folder).entries) == 1000


def test_a_verdict_that_the_records_do_not_give_is_left_out(board_folder, tmp_path):
    """The committed rows of a paper; then one that says the paper's number was met."""
    committed = Path(__file__).parents[2] / "leaderboards"
    status = read_status(committed / "status/mos.json")
    paper = load_paper("mos")
    work = Reproduction([(paper, paper.by_row["lite-order"])], committed / "records", committed)
    for key in work.tasks():
        shutil.copytree(committed / "records" / key, board_folder / "records" / key)
    write_status(board_folder / "status/mos.json", status)
    render(board_folder, tmp_path / "site")
    honest = (board_folder / "README.md").read_text()
    claim = status.rows[-1].claims[0]
    assert claim.measured in honest and "as stated" not in honest

    better = claim.model_copy(update={"measured": "89.25 and 85.15"})
    row = status.rows[-1].model_copy(update={"claims": (better,)})
    write_status(board_folder / "status/mos.json", status.model_copy(update={"rows": (row,)}))
    render(board_folder, tmp_path / "site")
    assert "89.25 and 85.15" not in (board_folder / "README.md").read_text()
    assert "differs from the records on this board" in (board_folder / "README.md").read_text()


def test_a_verdict_without_records_says_so(filled, tmp_path):
    text, _ = _page(filled, tmp_path / "site")
    assert "as stated; its records are missing" in text
