"""Print constraints that hold every dependency of the project at the lower bound it declares.

    python .ci/lower_bounds.py > oldest.txt
    pip install -c oldest.txt -e '.[test]'

A requirement ``name>=1.2`` becomes ``name==1.2``; a dependency that has no lower bound is an error,
for a bound that nobody states is one that nobody tests.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lower_bounds(requirements: list[str]) -> list[str]:
    """The requirements as exact versions, which are their lowest ones.

    Raises:
        SystemExit: A requirement has neither ``>=`` nor ``==``.
    """
    # A constraint names no extra: `pooch[progress]>=1.8` is `pooch==1.8`.
    form = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?\s*[>=]=\s*([\w.]+)")
    found = [form.fullmatch(line) for line in requirements]
    if wrong := [line for line, match in zip(requirements, found, strict=True) if not match]:
        sys.exit(f"expected NAME>=VERSION in {PYPROJECT.name}; found {', '.join(wrong)}")
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    sys.stdout.write("\n".join(lower_bounds(dependencies)) + "\n")
