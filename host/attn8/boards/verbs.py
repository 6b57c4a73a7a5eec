"""The verbs for boards: thin, one function call each. Imports nothing heavy before a verb needs it."""

import sys

import click

from ..command import EXIT_FAILED, fail_with, verb

model_file = click.argument("file", type=click.Path())
_PORT = "Board: device path, a0, u0, id:SERIAL, auto, socket://HOST:PORT. Without it the only one that is plugged in"
_port = click.option("--port", "-p", help=f"{_PORT}.")
_ports = click.option("--port", "-p", "ports", multiple=True, help=f"{_PORT}; may be repeated.")


@verb(
    "bench",
    "attn8 bench gesture.a8 --board pico\n  attn8 bench --kernels --board pico2\n  attn8 bench --sizes",
    click.argument("file", required=False, type=click.Path()),
    click.option("--kernels", is_flag=True, help="Count each kernel at fixed sizes, in place of a model file."),
    click.option("--sizes", is_flag=True, help="Bytes of the C core on a Cortex-M0+, part by part, likewise."),
    click.option("--board", default="pico", show_default=True, help="Board to count for."),
)
def bench(output, file, kernels, sizes, board):
    """Count the cycles or instructions of one window on an emulated board, op by op."""
    from .. import boards, profile
    from ..model_file import read_model
    from ..progress import counted
    from . import sizes as core_sizes
    from .kernels import bench_kernels

    if kernels + sizes + (file is not None) != 1:
        raise click.UsageError("give a model FILE, --kernels or --sizes, one of them")
    if sizes and board != "pico":
        raise click.UsageError("--sizes is for a Cortex-M0+, without --board")
    if sizes:
        output.result(core_sizes.bench_sizes(), core_sizes.render)
        return
    with counted("emulating", output.progress) as progress:
        found = bench_kernels(board, progress) if kernels else boards.bench(read_model(file), board, None, progress)
    output.result(found, profile.render_kernels if kernels else profile.render_bench)


@verb(
    "build-native",
    "attn8 build-native --mpy-dir ~/micropython --arch armv6m --arch xtensawin",
    click.option("--mpy-dir", required=True, type=click.Path(), help="Source tree of MicroPython or CircuitPython."),
    click.option("--arch", "archs", multiple=True, help="Architecture, such as armv6m; may be repeated."),
    click.option("--all", "all_", is_flag=True, help="Every architecture that has a compiler here."),
    click.option("-o", "--out", type=click.Path(file_okay=False), help="Folder; by default ~/.cache/attn8/native."),
    click.option("--without", multiple=True, help="An op, or stream, to leave out; may be repeated."),
    click.option("--portable", is_flag=True, help="Portable kernels: slower and smaller."),
)
def build_native(output, mpy_dir, archs, all_, out, without, portable):
    """Build the native module _attn8.mpy against a source tree, one folder for each architecture, with SHA256SUMS."""
    from .. import native_build

    if bool(archs) == all_:
        raise click.UsageError(f"give --arch or --all; architectures: {', '.join(native_build.ARCHS)}")
    archs = native_build.ARCHS if all_ else archs
    found = native_build.build(mpy_dir, archs, out, output.say, all_, without, portable)
    output.result(found, native_build.render)


@verb("devices", "attn8 devices", _ports)
def devices(output, ports):
    """Show the boards that are plugged in: firmware, whether _attn8 is there, models. A program there starts anew."""
    from . import facts

    found = {"devices": facts.devices(ports)}
    output.result(found, facts.render_devices)
    errors = [device["error"] for device in found["devices"] if "error" in device]
    if ports or len(errors) == len(found["devices"]):
        fail_with(errors)
    for error in errors:  # some other serial device that is plugged in is no fault
        output.say(error)


@verb(
    "flash",
    "attn8 flash ESP32_GENERIC_S3.bin --port a0\n  attn8 flash RPI_PICO.uf2 --board pico",
    click.argument("firmware", type=click.Path()),
    _port,
    click.option("--drive", type=click.Path(exists=True, file_okay=False), help="Folder of a board's UF2 boot drive."),
    click.option("--board", metavar="NAME", help="Refuse a file that is not for this board of the table."),
    click.option("--sha256", metavar="HEX", help="Of the file, as its download page shows it."),
    click.option("--erase", is_flag=True, help="Erase the files on the board too; asks first."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Check the file, and a board that is named; write nothing."),
    click.option(
        "--baud", default=460_800, show_default=True, type=click.IntRange(9600, 2_000_000), help="To an ESP32."
    ),
)
def flash(output, firmware, port, drive, board, sha256, erase, yes, dry_run, baud):
    """Put a firmware file on a board: checked first, compared there after; the files on the board stay."""
    from ..progress import TransferBars
    from . import flash as boards

    if erase and not (yes or dry_run):
        click.confirm("Erase all files on the board?", abort=True, err=True)
    with TransferBars(output.progress) as advance:
        found = boards.flash(
            *(firmware, port, drive, board, sha256, erase, dry_run, baud, output.say),
            progress=lambda *step: advance(port or "board", *step),
        )
    output.result(found, boards.render)


@verb(
    "install",
    "attn8 install --port a0\n  attn8 install --native build/native",
    _port,
    click.option("--native", type=click.Path(exists=True, file_okay=False), help="Folder of native modules."),
    click.option("--pure", is_flag=True, help="No native module: viper code or bytecode only."),
)
def install(output, port, native, pure):
    """Put attn8 and the native module that fits on a board, and run golden vectors there."""
    from ..progress import TransferBars
    from . import install as boards

    if native and pure:
        raise click.UsageError("--native and --pure exclude each other")
    with TransferBars(output.progress) as advance:
        found = boards.install(port, native, pure, output.say, lambda *step: advance(port or "board", *step))
    output.result(found, boards.render)


@verb(
    "deploy",
    "attn8 deploy gesture.a8 --port a0\n  attn8 deploy gesture.a8 --port a0 --port a1 --confirm",
    model_file,
    _ports,
    click.option("--name", help="Name of the slots on the board, by default that of the file."),
    click.option("--confirm", is_flag=True, help="No trial: the model is good at once."),
    click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Sign it with this key, NAME.key there."),
)
def deploy(output, file, ports, name, confirm, key):
    """Bring a model to boards: into the slot to spare, tested there, then active; a cut cable costs nothing."""
    from ..progress import TransferBars
    from . import deploy as boards

    with TransferBars(output.progress) as advance:
        found = boards.on_each(
            ports,
            lambda port: boards.deploy(file, port, name, confirm, key, lambda *step: advance(port or "board", *step)),
        )
    output.result({"boards": found}, lambda f: "\n".join(map(boards.render_deployed, f["boards"])))
    fail_with([board["error"] for board in found if "error" in board])
    if any(board["state"] == "trial" for board in found):
        output.say("in trial: it becomes good by attn8.confirm() or after enough windows, else the board goes back")


_slot_name = click.argument("name", required=False, metavar="[NAME]")


@verb("rollback", "attn8 rollback gesture --port a0", _slot_name, _ports)
def rollback(output, name, ports):
    """Go back to the model that boards had before the last deploy."""
    from . import deploy as boards

    found = boards.on_each(ports, lambda port: boards.rollback(port, name))
    output.result({"boards": found}, lambda f: "\n".join(map(boards.render_rolled_back, f["boards"])))
    fail_with([board["error"] for board in found if "error" in board])


@verb("status", "attn8 status --port a0", _slot_name, _ports)
def status(output, name, ports):
    """Show the slots on boards: which model is active, which is in trial, which can be gone back to."""
    from . import deploy as boards

    found = boards.on_each(ports, lambda port: boards.status(port, name))
    output.result({"boards": found}, lambda f: boards.render_status(f["boards"]))
    fail_with([board["error"] for board in found if "error" in board])


@verb(
    "repl",
    "attn8 repl --port a0 --model gesture.a8",
    _port,
    click.option("--model", metavar="FILE", help="A file here, or a slot name on the board; it becomes m."),
    click.option("--folder", type=click.Path(exists=True, file_okay=False), help="To mount, by default the model's."),
)
def repl(output, port, model, folder):
    """Talk to a board: a folder of yours mounted there, attn8 imported, the model loaded as m."""
    from . import repl as boards

    boards.repl(port, model, folder, output.say)


@verb(
    "test",
    "attn8 test --port a0\n  attn8 test model stream --port a0",
    click.argument("names", nargs=-1, metavar="[NAME]..."),
    _port,
)
def test(output, names, port):
    """Run the tests of the device package, and golden vectors, on a board; nothing stays there."""
    from . import testing

    found = testing.device_test(port, names, output.say)
    output.result(found, testing.render)
    if not testing.passed(found):
        sys.exit(EXIT_FAILED)
