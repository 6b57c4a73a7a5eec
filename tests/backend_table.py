"""``python tests/backend_table.py``: runs the device tests on every back end and prints the table of the README.

What a back end lacks (Node.js, QEMU, a compiler, MicroPython's source in $MICROPYTHON_DIR) is told, and its row
left out. With --write the table goes into the README, if it is whole.
"""

import re
import sys

import pytest

import micropython_builds as builds
import readme

IN_README = re.compile(r"(?<=<!-- output: backends -->\n)(?:\|.*\|\n)+")
HEAD = ("back end", "where", "words", "device tests passed")


def passed(output):
    """Returns (how many device tests passed, how many ran) in what tests/device/run.py printed."""
    results = re.findall(r"^(ok|FAILED) test_", output, re.MULTILINE)
    return results.count("ok"), len(results)


def row(name):
    """Returns the cells of a back end of BACKENDS. Raises LookupError if its tests did not run to their end."""
    backend, where, _ = builds.BACKENDS[name]
    output = builds.device_test_output(name)
    found = re.search(r"^back end (\w+)\nword bits (\d+)\n(?:.*\n)*failed \d+$", output, re.MULTILINE)
    if not found or found[1] != backend.partition(",")[0]:
        raise LookupError(f"{name}: the tests did not begin on {backend}, or did not end: {output[-2000:]}")
    return backend, where, f"{found[2]} bits", "{} of {}".format(*passed(output))


def table(names=tuple(builds.BACKENDS)):
    """Returns the Markdown table, a line for each back end."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, names)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def write(lines):
    """Puts the table into the README."""
    text = readme.README.read_text(encoding="utf-8")
    readme.README.write_text(IN_README.sub(lambda _: f"{lines}\n", text), encoding="utf-8")


def main():
    """Prints the table of what is here. Returns the exit status: 1 if a row is missing."""
    names, missing = [], []
    for name in builds.BACKENDS:
        try:
            row(name)
            names.append(name)
        except (LookupError, pytest.fail.Exception, pytest.skip.Exception) as error:
            missing.append(f"{name}: {error}")
    lines = table(names)
    print(lines)
    if "--write" in sys.argv and not missing:
        write(lines)
    return "\n".join(missing) or 0


if __name__ == "__main__":
    sys.exit(main())
