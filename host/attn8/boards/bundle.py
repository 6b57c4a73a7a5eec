"""``python -m attn8.boards.bundle``: attn8 as a zip in the layout of CircuitPython's library bundles.

NAME/lib/attn8/ is the folder that goes into lib on a board's drive, NAME/examples/ has programs. Without a compiler
it holds sources and NAME is attn8-py-VERSION; with CircuitPython's mpy-cross .mpy files, attn8-10.x-mpy-VERSION, where
10 is the release of the compiler. These are the names by which circup and the tools of the bundles know the two.
"""

import sys
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import click

from ..atomic import write_atomic
from ..errors import Attn8Error
from .install import circuitpython_compiler, compiled_package


def bundle(out=".", mpy_cross=None):
    """Writes the zip and returns its path.

    Args:
        out: folder.    mpy_cross: path of CircuitPython's compiler, for its own release.

    Raises:
        InstallError: if the compiler is another's or refuses a file.    OSError.
    """
    from ..device import __version__

    compiler = circuitpython_compiler(mpy_cross)
    kind = f"{compiler.release[0]}.x-mpy" if compiler else "py"
    name = f"attn8-{kind}-{__version__}"
    board = SimpleNamespace(implementation="circuitpython", mpy_version=compiler and compiler.mpy_version, arch="")
    files = {f"lib/attn8/{file}": data for file, data in compiled_package(board, mpy_cross).items()}
    files |= {f"examples/{file.name}": file.read_bytes() for file in sorted(_examples().glob("*.py"))}
    path = Path(out, f"{name}.zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _zipped(name, files))
    return path


def _examples():
    """Returns the folder of the examples: in an installed wheel, else in the source tree."""
    here = Path(__file__).resolve()
    installed = here.parents[1] / "examples"
    return installed if installed.is_dir() else here.parents[3] / "device" / "examples"


def _zipped(name, files):
    """Returns the bytes of a zip: the same for the same files."""
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}/{file}"), data, zipfile.ZIP_DEFLATED)
    return whole.getvalue()


@click.command(epilog="Example: python -m attn8.boards.bundle --mpy-cross ~/circuitpython/mpy-cross/build/mpy-cross")
@click.option("-o", "--out", default=".", show_default=True, type=click.Path(file_okay=False), help="Folder.")
@click.option("--mpy-cross", metavar="FILE", help="CircuitPython's compiler; without it the sources go into the zip.")
def main(out, mpy_cross):
    """Write attn8 as a zip in the layout of CircuitPython's library bundles."""
    try:
        click.echo(bundle(out, mpy_cross))
    except (Attn8Error, OSError) as error:
        click.echo(f"attn8: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
