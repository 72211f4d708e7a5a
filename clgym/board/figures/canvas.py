"""Common style of all figures, and reproducible files: the same bytes for the same data.

Matplotlib is imported where it is used, and its settings hold inside `styled` only.
"""

import contextlib
import contextvars
import functools
import html
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict

from clgym.errors import BadConfig
from clgym.files import sha256, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FORMATS",
    "INK",
    "FigureStyle",
    "SeriesStyle",
    "drawn_in",
    "new",
    "plain",
    "points",
    "room_below",
    "save",
    "series_style",
    "styled",
    "svg",
]

INK = "#1a1b1c"
"""Colour of text, axes and everything that shows no data; `svg` replaces it by currentColor."""
FORMATS = ("svg", "pdf", "png")
_DOTS_PER_INCH = 300
"""Resolution of PNG files."""
_FONT = 10.0
"""Font size in points for which the heights of figures are chosen."""
_SIZES = {"single-column": (3.3, 8.0), "double-column": (6.9, 9.0)}
"""Width in inches of a column or a text page in most journals, and font size in points."""
_MEASURED = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class FigureStyle:
    """Size of a figure and of its text."""

    width: float = 5.0
    """Width in inches. The default lies between one and two columns of a paper, and is legible on a
    phone."""
    height: float | None = None
    """Height in inches; None: as much as the content needs."""
    font_size: float = _FONT
    """Font size in points."""

    @classmethod
    def parse(cls, size: str | None, font_size: float | None = None) -> "FigureStyle":
        """Return the style that options describe.

        Args:
            size: ``single-column``, ``double-column``, ``WxH`` in inches, or None.
            font_size: In points; None: the default of the size.

        Raises:
            BadConfig: ``size`` is none of these, or a size or font size is out of range.
        """
        width, height, font = cls.width, None, _FONT
        measured = _MEASURED.fullmatch(size or "")
        if size in _SIZES:
            width, font = _SIZES[size]
        elif measured:
            width, height = float(measured[1]), float(measured[2])
        elif size is not None:
            raise BadConfig(
                expected=f"a size ({', '.join(_SIZES)}, or WxH in inches)",
                found=repr(size),
                fix="Write it as in --size 3.3x2.5",
            )
        found = cls(width, height, font if font_size is None else font_size)
        if not all(1 <= side <= 40 for side in (width, height or 1)) or not (
            3 <= found.font_size <= 40
        ):
            raise BadConfig(
                expected="a width and height from 1 to 40 inches, and a font size from 3 to 40",
                found=f"{width:g} x {height or width:g} inches, font size {found.font_size:g}",
                fix="Change --size or --font-size",
            )
        return found


_USUAL = FigureStyle()
_STYLE_NOW: contextvars.ContextVar[FigureStyle] = contextvars.ContextVar(
    "figure_style", default=_USUAL
)


@contextlib.contextmanager
def drawn_in(style: FigureStyle) -> Iterator[None]:
    """Draw in another style within the block."""
    token = _STYLE_NOW.set(style)
    try:
        yield
    finally:
        _STYLE_NOW.reset(token)


def points(size: float) -> float:
    """Scale a font size in points of the default style to the current style."""
    return size * _STYLE_NOW.get().font_size / _FONT


# Okabe & Ito 2008, without the yellow that vanishes on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
_MARKERS = "osD^vPX*"
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
_STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # Matplotlib brings it: the same on every machine
    "font.size": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "pdf.fonttype": 42,  # text that can be selected
    "savefig.facecolor": "none",
    "svg.hashsalt": "clgym",
    "text.color": INK,
    "text.parse_math": False,  # otherwise a name with two dollar signs would be read as a formula
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}
_TEXT_SIZES = ("font.size", "legend.fontsize", "xtick.labelsize", "ytick.labelsize")
_NAMELESS = {
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator", "Producer"),
    "png": ("Software",),
}
P = ParamSpec("P")


@contextlib.contextmanager
def _settings(**more: Any) -> Iterator[None]:
    """Use our settings on top of Matplotlib's defaults; restore the process's afterwards."""
    import matplotlib

    sizes = {name: points(value) for name, value in _STYLE.items() if name in _TEXT_SIZES}
    values: dict[Any, Any] = {**_STYLE, **sizes, **more}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(values)
        yield


def styled(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Draw with clgym's Matplotlib settings, whatever those of the process are."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with _settings():
            return draw(*args, **kwargs)

    return inside


def new(height: float = 3.4) -> tuple["Figure", "Axes"]:
    """Return a figure with one pair of axes, which opens no window and is unknown to pyplot."""
    from matplotlib.figure import Figure

    style = _STYLE_NOW.get()
    needed = style.height or points(height)
    figure = Figure(figsize=(style.width, needed), layout="constrained")
    return figure, figure.add_subplot()


def room_below(figure: "Figure", height: float) -> None:
    """Make a figure taller for content that is drawn below its axes, unless its height is fixed.

    Args:
        figure: The figure.
        height: Additional height in inches, in the default style.
    """
    if _STYLE_NOW.get().height is None:
        figure.set_figheight(figure.get_figheight() + points(height))


class SeriesStyle(TypedDict):
    """Keywords of Matplotlib that say how a series is drawn."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]


def series_style(number: int) -> SeriesStyle:
    """Colour, marker and dash of the n-th series; each of the three suffices to identify it."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def plain(name: str, longest: int = 28) -> str:
    """A name that can be drawn: one line, no control characters, not too long."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(name).split()))
    return text if len(text) <= longest else text[: longest - 1] + "\u2026"


def svg(figure: "Figure", label: str = "") -> str:
    """A figure as an element of a page: text stays text and takes the colour of the page.

    Args:
        figure: A figure of `clgym.board.figures.drawing`.
        label: Text for screen readers.

    Returns:
        One ``<svg>`` as wide as the element around it. Its ids are unique, so that a page can hold
        several.
    """
    text = _rendered(figure, "svg", letters="none").decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # An inline style sheet would hold for the whole page.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    own = f"f{sha256(text.encode())[:8]}-"
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}", text)
    head, end, rest = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    name = f'role="img" aria-label="{html.escape(label)}"' if label else 'aria-hidden="true"'
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    joins = 'stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg class="figure" {links} {box[0] if box else ""} {name} {joins}{end}{rest}'.strip()


def save(figure: "Figure", path: Path) -> None:
    """Write a figure for a paper: SVG with letters as outlines, PDF, or PNG on white.

    Raises:
        BadConfig: The file's ending is none of `FORMATS`.
        BadOutput: The file cannot be written.
    """
    kind = path.suffix.lstrip(".")
    if kind not in FORMATS:
        raise BadConfig(
            expected="a figure's name to end in .svg, .pdf or .png",
            found=path.name,
            fix="Rename it",
        )
    write_atomic(path, _rendered(figure, kind))


def _rendered(figure: "Figure", kind: str, letters: str = "path") -> bytes:
    file = io.BytesIO()
    # Dark text on a transparent background could not be read in a viewer with a dark background.
    options = {"dpi": _DOTS_PER_INCH, "facecolor": "white"} if kind == "png" else {}
    with _settings(**{"svg.fonttype": letters}):
        figure.savefig(file, format=kind, metadata=dict.fromkeys(_NAMELESS[kind]), **options)
    return file.getvalue()
