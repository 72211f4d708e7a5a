"""Links of the board to the repository, the documentation, the rules of submission and the CSV."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from clgym.errors import BadConfig

__all__ = ["CSV", "Links"]

CSV = "board.csv"
"""Name of the file beside the page that has a line for each run."""


@dataclass(frozen=True)
class Links:
    """Addresses of a project's repository and documentation; empty where they are not known."""

    repository: str = ""
    docs: str = ""

    @classmethod
    def of_installation(cls, repository: str | None = None, docs: str | None = None) -> "Links":
        """Return the given addresses, or else those that the installed package states.

        Raises:
            BadConfig: An address is neither https, http nor relative.
        """
        known = dict(_project_urls())
        found = cls(
            known.get("repository", "") if repository is None else repository,
            known.get("documentation", "") if docs is None else docs,
        )
        for name, address in (("repository", found.repository), ("docs", found.docs)):
            _check(name, address)
        return found

    @property
    def named(self) -> list[tuple[str, str]]:
        """Title and address of each link, in the order of the page."""
        submitting = f"{self.docs.rstrip('/')}/submitting/" if self.docs else "#submit"
        links = [
            ("Repository", self.repository),
            ("Documentation", self.docs),
            ("How to submit", submitting),
            ("All numbers as CSV", CSV),
        ]
        return [(title, address) for title, address in links if address]


def _project_urls() -> Iterator[tuple[str, str]]:
    try:
        urls = importlib.metadata.metadata("clgym").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in urls:
        name, _, address = line.partition(",")
        yield name.strip().lower(), address.strip()


def _check(name: str, address: str) -> None:
    scheme, colon, _ = address.partition(":")
    relative = not colon or "/" in scheme
    if not (relative or scheme in ("http", "https")) or not address.isprintable():
        raise BadConfig(
            expected=f"--{name} to be an address that begins with https:// or http://, or a path",
            found=repr(address),
            fix="Give the address as a browser shows it",
        )
