"""A page for every method, from its file, the claims of its paper, and the board's records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numbers_of_runs
from writing import cell, folded, prose, table

from clgym import config, registry
from clgym.board.reading.entries import BoardEntry
from clgym.cli._flags import as_text, limits
from clgym.errors import ClgymError
from clgym.papers.claims import Paper, load_paper, paper_names
from clgym.papers.status import ClaimStatus, read_status
from clgym.registry import PluginEntry
from clgym.strategy import Strategy

__all__ = ["FAMILIES", "Method", "index", "load_methods", "page"]

ROOT = Path(__file__).resolve().parents[2]

FAMILIES = {
    "Trained from scratch": "They train a network that starts from random weights.",
    "On a pretrained network": "They build on a network with pretrained weights, mostly frozen.",
    "Without labels": "They learn features from images without labels.",
    "At test time": "They adapt a finished classifier to a stream of test images without labels.",
    "Around another method": "They change how any method that trains by SGD takes its steps.",
    "Forgetting on request": "They remove the influence of training rows that are to be forgotten.",
    "From Avalanche": "They are strategies of the library Avalanche, run as they stand.",
}
"""Heading of each family, and what its methods have in common."""

_DIFFERS = re.compile(
    r"differ|[Dd]epart|authors' code|protocol's code|reproduc|Defaults are|Written from|"
    r"The original|is another|was not (used|read)|[Tt]he released code (sets|has|loses|computes)|"
    r"authors keep|no specification",
)
"""What a sentence says that compares the file with a paper or with other code."""
_ARXIV = re.compile(r"(?:arXiv\s|arxiv\.org/abs/)(\d{4}\.\d{4,5})")
_SENTENCES = re.compile(r"(?<=[.)])\s+(?=[A-Z])")


@dataclass(frozen=True)
class Method:
    """What a method's page is made from."""

    entry: PluginEntry
    cls: type | None
    """None for the file that stands for all of Avalanche's strategies."""
    papers: Sequence[Paper]
    results: Sequence[BoardEntry]

    @property
    def name(self) -> str:
        """Name on the command line."""
        return self.entry.name

    @property
    def family(self) -> str:
        """Heading under which the method is listed."""
        if self.cls is None:
            return "From Avalanche"
        bases = {base.__name__ for base in self.cls.__mro__}
        if self.cls.forget is not Strategy.forget:
            return "Forgetting on request"
        if "AdaptStrategy" in bases:
            return "At test time"
        if "Wrapper" in bases or any(f.kind == config.WRAPS for f in self.fields):
            return "Around another method"
        if "PretrainingStrategy" in bases:
            return "Without labels"
        pretrained = {"PretrainedStrategy", "ClassMeanStrategy"} & bases
        return "On a pretrained network" if pretrained else "Trained from scratch"

    @property
    def fields(self) -> list[config.Field]:
        """Options."""
        return config.fields_of(self.cls.Config) if self.cls else []


def load_methods(board: Sequence[BoardEntry]) -> list[Method]:
    """All methods that are built in, by name."""
    papers = [load_paper(name) for name in paper_names()]
    return [
        Method(
            entry,
            None if entry.variants else registry.load_class(entry, Strategy),
            [paper for paper in papers if name in paper.strategies],
            [e for e in board if name in re.split(r"[ :]", e.strategy)],
        )
        for name, entry in sorted(registry.entries("strategies", ()).items())
        if entry.origin == "built-in"
    ]


def index(methods: Sequence[Method]) -> str:
    """The page that lists all methods."""
    parts = [
        "# Methods\n",
        "Generated from the methods' files; `clgym list strategies` prints it.\n",
    ]
    for family, text in FAMILIES.items():
        rows = [
            (
                f"[{m.name}]({m.name}.md)",
                cell(m.entry.summary),
                _year(m),
                str(len(m.results) or ""),
            )
            for m in methods
            if m.family == family
        ]
        heads = ("method", "what it does", "year", "rows on the board")
        parts += [f"## {family}\n", f"{text}\n", table(heads, rows)]
    return "\n".join(parts)


def _citation(method: Method) -> str:
    """Where the file names its paper: behind the first line, up to other code that it follows."""
    paragraph = method.entry.doc.partition("\n\n")[2].partition("\n\n")[0]
    return re.split(r"[Aa]s the protocol", paragraph)[0]


def _year(method: Method) -> str:
    """Year of the method's paper; "" if the file names none."""
    found = re.search(r"\b(?:19|20)\d\d\b", _citation(method))
    return found.group() if found else ""


def _paper(method: Method) -> Iterator[str]:
    """The method's own paper, and others whose claims it is measured by."""
    found = _ARXIV.search(_citation(method))
    link = f"https://arxiv.org/abs/{found[1]}" if found else ""
    own = [paper for paper in method.papers if paper.link == link]
    for paper in own:
        place = f"{cell(paper.authors)}, {cell(paper.venue)} {paper.year}"
        yield f"Paper: [{cell(paper.title)}]({link}), {place}.\n"
    if link and not own:
        yield f"Paper: [arXiv {link.rpartition('/')[2]}]({link}).\n"
    for paper in method.papers:
        if paper not in own:
            place = f"{cell(paper.venue)} {paper.year}"
            yield f"Also in: [{cell(paper.title)}]({paper.link}), {place}.\n"


def page(method: Method) -> str:
    """The page of one method."""
    return "\n".join([
        f"# {method.name}\n",
        *_description(method),
        *_options(method),
        *_results(method),
        *_claims(method),
    ])  # fmt: skip


def _description(method: Method) -> Iterator[str]:
    lead, _, rest = method.entry.doc.partition("\n\n")
    yield f"{prose(lead)}"
    yield from _paper(method)
    yield f"Family: {method.family.lower()}. {_needs(method)}\n"
    plain, differs = _told_apart(_paragraphs(rest))
    if plain:
        yield "## What it does\n"
        yield from map(prose, plain)
    yield "## Where it differs\n"
    if not differs:
        yield "No sentence of the file was found that names a difference from the paper.\n"
    yield from map(prose, differs)


def _paragraphs(text: str) -> list[str]:
    """Paragraphs; formulas, and the items of a list, belong to the paragraph before them."""
    joined: list[str] = []
    for part in filter(str.strip, text.split("\n\n")):
        belongs = part[0] in " *" or re.match(r"\d\. ", part)
        if joined and belongs:
            joined[-1] += f"\n\n{part}"
        else:
            joined.append(part)
    return joined


def _told_apart(paragraphs: Sequence[str]) -> tuple[list[str], list[str]]:
    """What a method does, and where it differs: from the first such sentence of a paragraph on."""
    plain, differs = [], []
    for text in paragraphs:
        starts = [0, *(found.end() for found in _SENTENCES.finditer(text))]
        ends = [*starts[1:], len(text)]
        cuts = [a for a, b in zip(starts, ends, strict=True) if _DIFFERS.search(text[a:b])]
        # A paragraph is cut at most once, and never inside formulas or a list.
        cut = cuts[0] if cuts and "\n\n" not in text else (0 if cuts else len(text))
        plain += [text[:cut]] if text[:cut].strip() else []
        differs += [text[cut:]] if text[cut:].strip() else []
    return plain, differs


def _needs(method: Method) -> str:
    """Scenario types and memory with default options, where these need no other method."""
    if method.cls is None:
        return ""
    try:
        needs = method.cls(config.build(method.cls.Config, {}, method.name)).needs
    except (AttributeError, ClgymError):
        return "What it needs is what the method inside needs."
    memory = f", with a memory of {needs.memory:,} samples" if needs.memory else ""
    return f"It works on {', '.join(needs.settings)} streams{memory}."


def _options(method: Method) -> Iterator[str]:
    name = method.name
    yield "## Options\n"
    if method.cls is None:
        variants = ", ".join(f"`{name}:{v}`" for v in method.entry.variants)
        yield f"Each has the options of its own constructor; `clgym show {name}:EWC` lists them.\n"
        yield f"{variants}\n"
        return
    yield f"`clgym run {name} SCENARIO` takes them; `clgym show {name}` prints them.\n"
    rows = [
        (
            f"`--{f.name.replace('_', '-')}`",
            "required" if f.required else f"`{as_text(f.default)}`",
            cell(", ".join(f.choices) or limits(f)),
            cell(f"{f.help} ({f.effect})" if f.effect else f.help),
        )
        for f in method.fields
    ]
    yield table(("option", "default", "values", "what it does"), rows)
    yield "Defaults are untuned unless the text above says where they are from.\n"


def _results(method: Method) -> Iterator[str]:
    yield "## Results on the board\n"
    if not method.results:
        yield "The board has no record of it yet.\n"
        return
    yield (
        "Last accuracy in percent (adaptation: mean accuracy over the stream), mean and standard "
        "deviation over seeds, as recomputed from the stored predictions. Streams are often a cut "
        "of the published one: the column says which.\n"
    )
    heads = ("stream", "cut", "options", "hyper-parameters", "seeds", "accuracy", "warnings")
    order = sorted(method.results, key=lambda e: (str(e.stream["name"]), e.strategy, e.id))
    yield table(heads, [_row(entry) for entry in order])


def _row(entry: BoardEntry) -> tuple[str, ...]:
    values = [100 * score.primary for score in entry.scores]
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 and not entry.alike else ""
    tuned = f"tuned ({entry.tuning.mode})" if entry.tuning else "untuned (chosen by hand)"
    return (
        f"`{entry.stream['name']}`",
        cell(numbers_of_runs.cut(entry)),
        cell(numbers_of_runs.chosen(entry)),
        tuned,
        str(len(values)) + ("" if entry.complete else " (some missing)"),
        f"{fmean(values):.2f}{spread}",
        folded(entry.flags),
    )


def _claims(method: Method) -> Iterator[str]:
    """Verdicts on the claims of the method's papers."""
    for paper in method.papers:
        rows = [
            (
                cell(row.row),
                cell(claim.claim),
                cell(claim.claimed),
                cell(claim.measured),
                _verdict(claim),
            )
            for row in _status(paper)
            for claim in row.claims
        ]
        if rows:
            yield f"## Claims of {paper.venue} {paper.year}\n"
            yield f"`clgym reproduce {paper.name}` runs them again; see [how](../reproducing.md).\n"
            yield table(("row", "claim", "claimed", "measured", "verdict"), rows)


def _status(paper: Paper) -> Sequence:
    file = ROOT / "leaderboards" / "status" / f"{paper.name}.json"
    return read_status(file).rows if file.is_file() else ()


def _verdict(claim: ClaimStatus) -> str:
    return cell(f"{claim.verdict}: {claim.why}" if claim.why else claim.verdict)


def pages(board: Sequence[BoardEntry]) -> tuple[list[Method], Mapping[str, str]]:
    """All methods, and the text of each page by its path below ``docs/``."""
    methods = load_methods(board)
    texts = {f"methods/{m.name}.md": page(m) for m in methods}
    return methods, {"methods/index.md": index(methods), **texts}
