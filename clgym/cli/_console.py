"""The console that commands print on."""

from collections.abc import Iterable

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from clgym.text import printable

__all__ = ["Console"]


class Console(RichConsole):
    """Rich's console, which shows control characters in names and texts instead of sending them."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render to segments; only segments that Rich makes itself may control the terminal."""
        for segment in super().render(renderable, options):
            text = segment.text
            shown = printable(text, 10 * len(text))  # an escape has up to 10 characters
            yield segment if segment.control else segment._replace(text=shown)
