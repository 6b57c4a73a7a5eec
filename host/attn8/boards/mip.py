"""package.json for ``mpremote mip install`` of a source tree; a test fails when it is stale.

python -m attn8.boards.mip         writes it again, in the root of a source tree
"""

import json
import sys
from pathlib import Path

from .. import __version__

FILE = "package.json"
MODULE = "_attn8.mpy"


def package(root):
    """Returns the text of package.json for the device package of a source tree."""
    names = sorted(file.name for file in (Path(root) / "device" / "attn8").glob("*.py"))
    return _text([[f"attn8/{name}", f"device/attn8/{name}"] for name in names])


def native_package():
    """Returns the text of package.json for the folder of one architecture, which holds _attn8.mpy."""
    return _text([[MODULE, MODULE]])


def _text(urls):
    lines = ",\n".join(f"    {json.dumps(pair)}" for pair in urls)
    return f'{{\n  "urls": [\n{lines}\n  ],\n  "version": "{__version__}"\n}}\n'


def main():
    """Writes package.json in the current folder."""
    root = Path.cwd()
    if not (root / "device" / "attn8").is_dir():
        print(f"{root}: got no device/attn8, expected the root of a source tree; go there first")
        return 2
    (root / FILE).write_text(package(root), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
