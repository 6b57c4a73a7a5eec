"""Reads the README's commands: ``python tests/readme.py NAME`` prints the block behind ``<!-- command: NAME -->``."""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(name):
    """Returns the fenced block that follows the marker of this name."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- command: {re.escape(name)} -->\n```\w*\n(.*?)\n```", text, re.DOTALL)
    if not found:
        raise LookupError(f"README.md has no block behind <!-- command: {name} -->")
    return found.group(1)


if __name__ == "__main__":
    print(command(sys.argv[1]))
