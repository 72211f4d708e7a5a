"""Every link of the built site: the page, the picture and the heading that it names exist.

Read from the HTML as a browser gets it, whatever wrote it.
"""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken"]


class _Page(HTMLParser):
    """Identifiers that links may name, and links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag names and where it leads."""
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.names.add(value)
            if key in ("href", "src") and value:
                self.links.append(value)


def broken(site: Path) -> list[str]:
    """Links inside the site that lead nowhere, each with its page; [] if there is none."""
    pages = {file.resolve(): _Page(file.read_text()) for file in site.rglob("*.html")}
    return sorted(set(_broken(site.resolve(), pages)))


def _broken(site: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    for file, page in pages.items():
        if file.name == "404.html":  # its links are written for the server's root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            place = file.relative_to(site)
            if not target.is_file():
                yield f"{place}: {link} leads to no file"
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].names
            ):
                yield f"{place}: {link} names no heading"
