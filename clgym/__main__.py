"""``python -m clgym``: the same as the command ``clgym``."""

import sys

from clgym.cli import main

if __name__ == "__main__":
    sys.exit(main())
