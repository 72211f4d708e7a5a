"""The picture of the floors as boxes in HTML, so that no page asks another server for a script.

GitHub draws the same block of Mermaid by itself.
"""

import re
from collections.abc import Mapping, Sequence

__all__ = ["as_floors"]

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NODE = re.compile(r'(\w+)\["(.*?)"\]')


def as_floors(page: str) -> str:
    """A page's Mermaid block as rows of boxes: an arrow leads from a row to a lower one."""
    return _BLOCK.sub(lambda found: _drawn(found[1]), page)


def _drawn(picture: str) -> str:
    names = dict(_NODE.findall(picture))
    floors = _floors(_arrows(picture))
    rows = []
    for number in sorted(set(floors.values()), reverse=True):
        texts = [names.get(name, name) for name, floor in floors.items() if floor == number]
        boxes = "".join(f"<div>{text}</div>" for text in texts)
        rows.append(f'<div class="floor">{boxes}</div>')
    return f'<div class="floors">{"".join(rows)}</div>'


def _arrows(picture: str) -> list[tuple[str, str]]:
    """Solid arrows, from what imports to what is imported."""
    arrows = []
    for line in picture.splitlines():
        if "-->" in line:
            left, right = (re.sub(r"\[.*?\]", "", side).split("&") for side in line.split("-->"))
            arrows += [(a.strip(), b.strip()) for a in left for b in right]
    return arrows


def _floors(arrows: Sequence[tuple[str, str]]) -> Mapping[str, int]:
    """Floor of each room: one above the highest that it imports from."""
    floors = dict.fromkeys((name for arrow in arrows for name in arrow), 0)
    for _ in floors:
        for above, below in arrows:
            floors[above] = max(floors[above], floors[below] + 1)
    return floors
