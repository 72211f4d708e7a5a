"""Text from records, data sets and plugins, made fit to be shown."""

import unicodedata

__all__ = ["LONGEST", "printable"]

LONGEST = 1000
"""Characters that one piece of text may take in a message or on a terminal."""
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that move the cursor, change the reading direction or show nothing."""
_KEPT = "\n\t"


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Show what a terminal would obey as an escape (``\u001b``), and cut what is too long.

    Args:
        text: Of any origin.
        longest: Characters of what is returned. Shown again, it stays as it is.
    """
    shown = "".join(_shown(character) for character in text[:longest])
    if max(len(shown), len(text)) <= longest:
        return shown
    count = f"... ({len(text):,} characters)"
    return shown[: longest - len(count)] + count


def _shown(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
