"""Reads the README's blocks: ``python tests/readme.py NAME`` prints the one behind ``<!-- command: NAME -->``."""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def block(kind, name):
    """Returns the fenced block that follows the marker ``<!-- kind: name -->``."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {kind}: {re.escape(name)} -->\n```\w*\n(.*?)\n```", text, re.DOTALL)
    if not found:
        raise LookupError(f"README.md has no block behind <!-- {kind}: {name} -->")
    return found.group(1)


def command(name):
    """Returns the command of this name."""
    return block("command", name)


def masked(text):
    """Returns text with every number and all white space evened out: what must not differ between two runs."""
    return re.sub(r"\d[\d,.]*", "0", " ".join(text.split()))


if __name__ == "__main__":
    print(command(sys.argv[1]))
