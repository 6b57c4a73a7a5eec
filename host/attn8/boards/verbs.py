"""The verbs for boards: thin, one function call each. Imports nothing heavy before a verb needs it."""

import functools
import re
import sys

import click

from ..command import EXIT_FAILED, fail_with, verb

model_file = click.argument("file", type=click.Path())
_SPELLINGS = "device path, a0, u0, id:SERIAL, auto, socket://HOST:PORT"
_PORT = f"Board: {_SPELLINGS}. Without it the only one that is plugged in"
_port = click.option("--port", "-p", help=f"{_PORT}.")
_ports = click.option("--port", "-p", "ports", multiple=True, help=f"{_PORT}; may be repeated.")


class _BoardOption(click.Option):
    """--board, whose help names the boards of the table."""

    def get_help_record(self, context):
        from . import boards

        names, text = super().get_help_record(context)
        return names, f"{text} Boards: {', '.join(boards())}."


_METER = (
    "Energy of a window, by ina219:sda=4,scl=5[,shunt=0.1,max=0.4,address=0x40] or ina226:... on the board's own I2C, "
    "csv:FILE[,volts=3.3,marker=D0], which you export when the board has ended, or otii[:HOST:PORT]."
)


@verb(
    "bench",
    "attn8 bench gesture.a8 --board pico\n  attn8 bench gesture.a8 --port a0 --timer 1000 --data test.npz\n"
    "  attn8 bench gesture --port a0 --soak 10m --log soak.csv\n  attn8 bench --kernels --board pico2",
    click.argument("file", required=False, type=click.Path(), metavar="[FILE|SLOT]"),
    click.option("--kernels", is_flag=True, help="Count each kernel at fixed sizes, in place of a model file."),
    click.option("--sizes", is_flag=True, help="Bytes of the C core on a Cortex-M0+, part by part, likewise."),
    click.option("--board", cls=_BoardOption, metavar="NAME", help="To emulate and count for; by default pico."),
    click.option("--port", "-p", help=f"Measure on the board there: {_SPELLINGS}."),
    click.option("--windows", type=click.IntRange(1, 10_000_000), help="How many; by default 1,000, or a minute."),
    click.option("--inputs", type=click.Choice(["golden", "random"]), help="Like golden vectors (default), or any."),
    click.option("--data", type=click.Path(), help="Test set, pushed to the board window by window."),
    click.option("--timer", type=click.IntRange(1, 50_000), metavar="HZ", help="Interrupt that runs meanwhile."),
    click.option("--meter", help=_METER),
    click.option("--marker-pin", metavar="PIN", help="High while windows run, for the meter."),
    click.option("--soak", metavar="TIME", help="Such as 10m: log latency, heap, die temperature, supply."),
    click.option("--log", type=click.Path(dir_okay=False), help="With --soak: CSV file to write. [default: soak.csv]"),
)
def bench(output, file, kernels, sizes, board, port, **there):
    """Measure a model on a board (--port), or count its cycles or instructions on an emulated one, op by op."""
    from .. import boards, profile
    from ..model_file import read_model
    from ..progress import counted
    from . import sizes as core_sizes
    from .kernels import bench_kernels

    if kernels + sizes + (file is not None) != 1:
        raise click.UsageError("give a model FILE, --kernels or --sizes, one of them")
    if port:
        if board:
            raise click.UsageError("--board is emulated, --port is plugged in: give one of them")
        _bench_on_board(output, file, port, **there)
        return
    given = [f"--{name.replace('_', '-')}" for name, value in there.items() if value is not None]
    if given:
        raise click.UsageError(f"{', '.join(given)}: for a board that is plugged in; give --port, such as --port auto")
    board = board or "pico"
    if sizes:
        if board != "pico":
            raise click.UsageError("--sizes is for a Cortex-M0+, without --board")
        output.result(core_sizes.bench_sizes(), core_sizes.render)
        return
    with counted("emulating", output.progress) as progress:
        found = bench_kernels(board, progress) if kernels else boards.bench(read_model(file), board, None, progress)
    output.result(found, profile.render_kernels if kernels else profile.render_bench)


def _bench_on_board(output, file, port, windows, inputs, data, timer, meter, marker_pin, soak, log):
    from ..progress import counted
    from . import measure, meters
    from . import soak as soaking

    if file is None:
        raise click.UsageError("give a model FILE or the name of a SLOT; --kernels and --sizes are without --port")
    if soak and (windows or inputs or data or meter or marker_pin):
        raise click.UsageError("--soak goes with --log and --timer only")
    if log and not soak:
        raise click.UsageError("--log goes with --soak")
    with counted("measuring", output.progress) as bar:
        say = {"say": output.say, "progress": lambda what, done, of: bar(done, of)}
        if soak:
            found = soaking.soak(file, port, _seconds(soak), log or "soak.csv", timer or 0, **say)
            failed = found["wrong_outputs"] and "outputs changed from window to window"
        else:
            pin = int(marker_pin) if marker_pin and marker_pin.isdecimal() else marker_pin
            meter = meter and meters.meter(meter, output.say)
            if meter and meter.needs_marker and pin is None:
                raise click.UsageError("this meter must be told when windows run: --marker-pin PIN, wired to its input")
            options = measure.Options(windows, inputs or "golden", data, timer or 0, meter, pin)
            found = measure.measure(file, port, options, **say)
            failed = not measure.same_bytes(found) and "the outputs differ from the reference"
    if found["interrupted"]:
        output.say("interrupted: what was measured until then")
    output.result(found, soaking.render if soak else measure.render)
    fail_with([f"{found['port']}: {failed}; please report this with the model"] if failed else [])


def _seconds(text):
    """Returns the seconds of a time such as 90s, 10m or 2h."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not seconds:
        raise click.UsageError(f"--soak: got {text!r}, expected a time such as 90s, 10m or 2h")
    return seconds


@verb(
    "fit",
    "attn8 fit gesture.a8 --board pico --battery 500\n  attn8 fit gesture.a8 --board all",
    model_file,
    click.option("--board", cls=_BoardOption, metavar="NAME", required=True, help="Which; all: a line for each."),
    click.option("--backend", type=click.Choice(["native", "viper", "python"]), help="By default the fastest there."),
    click.option(
        "--every", type=float, metavar="MS", help="From one prediction to the next; by default as in training."
    ),
    click.option("--battery", type=float, metavar="MAH", help="Also tell the days on a lithium cell."),
    click.option("--stream", is_flag=True, help="Samples as they come, in place of windows."),
    click.option("--packed", is_flag=True, help="A stream with packed weights."),
    click.option("--rom", is_flag=True, help="The file lies in ROMFS or a frozen module, not in the heap."),
    click.option("--portable", is_flag=True, help="A native module built with --portable."),
)
def fit(output, file, board, backend, every, battery, stream, packed, rom, portable):
    """Say whether a model fits a board (tight: over 80 % of something; exit 3: no); install, deploy ask a real one."""
    from ..model_file import read_model
    from ..progress import counted
    from . import DoesNotFitError
    from . import fit as fits

    use, data = fits.Use(backend, every, battery, stream, packed, rom, portable), read_model(file)
    with counted("emulating", output.progress) as progress:
        found = fits.fit_all(data, use, progress) if board == "all" else fits.fit(data, board, use, progress)
    output.result(found, fits.render_all if board == "all" else fits.render)
    if found["verdict"] == fits.NOT:
        raise DoesNotFitError(f"{file}: {found['reason']}")


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
    click.option("--drive", metavar="DIR", help="Folder of its UF2 boot drive; with --port where it will appear."),
    click.option("--board", cls=_BoardOption, metavar="NAME", help="Refuse a file that is not for this board."),
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

    if erase and not dry_run:
        _agree("--erase: all files on the board are erased too.", yes)
    with TransferBars(output.progress) as advance:
        found = boards.flash(
            *(firmware, port, drive, board, sha256, erase, dry_run, baud, output.say),
            progress=lambda *step: advance(port or "board", *step),
        )
    output.result(found, boards.render)


@verb(
    "install",
    "attn8 install --port a0\n  attn8 install --native build/native\n  attn8 install --drive /media/you/CIRCUITPY",
    _port,
    click.option("--native", type=click.Path(exists=True, file_okay=False), help="Folder of native modules."),
    click.option("--pure", is_flag=True, help="No native module: viper code or bytecode only."),
    click.option("--drive", metavar="DIR", help="Drive of a CircuitPython board, such as CIRCUITPY, without a port."),
    click.option("--mpy-cross", metavar="FILE", help="Compiler of the package; CircuitPython gets sources without."),
)
def install(output, port, native, pure, drive, mpy_cross):
    """Put attn8 and the native module that fits on a board, and run golden vectors there.

    On a drive nothing is run, and the native module is chosen by the processor that boot_out.txt names.
    """
    from ..progress import TransferBars
    from . import drive_install
    from . import install as boards

    if (native and pure) or (port and drive):
        raise click.UsageError("--native and --pure exclude each other, and so do --port and --drive")
    with TransferBars(output.progress) as advance:
        if drive:
            found = drive_install.install(drive, native, pure, mpy_cross, functools.partial(advance, drive))
        else:
            progress = functools.partial(advance, port or "board")
            found = boards.install(port, native, pure, output.say, progress, mpy_cross)
    output.result(found, drive_install.render if drive else boards.render)
    output.say("next: attn8 deploy FILE")


_via = click.option(
    "--via",
    type=click.Choice(["mpremote", "ampy", "drive"]),
    help="What carries it: mpremote (the default), ampy, or the board's drive, such as CIRCUITPY, without a port.",
)
_drives = click.option("--drive", "drives", multiple=True, help="Folder of the drive; may be repeated.", metavar="DIR")
_delay = click.option("--delay", type=click.FloatRange(0, 60), help="Seconds that ampy waits before each command.")


@verb(
    "deploy",
    "attn8 deploy gesture.a8 --port a0\n  attn8 deploy gesture.a8 --port a0 --port a1 --confirm\n"
    "  attn8 deploy gesture.a8 --drive /media/you/CIRCUITPY\n  attn8 deploy gesture.a8 --to rom",
    model_file,
    _ports,
    click.option("--name", help="Name of the slots on the board, by default that of the file."),
    click.option("--confirm", is_flag=True, help="No trial: the model is good at once."),
    click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Sign it with this key, NAME.key there."),
    *(_via, _delay, _drives),
    click.option("--to", type=click.Choice(["slot", "rom"]), default="slot", help="rom: /rom/NAME.a8, in ROMFS."),
    click.option("--in-place", is_flag=True, help="Give up the model that runs first, where there is room for one."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask, where a cut cable could cost the model."),
)
def deploy(output, file, ports, name, confirm, key, via, delay, drives, to, in_place, yes):
    """Bring a model to boards: into the slot to spare, tested there, then active; a cut cable costs nothing.

    With --to rom and --in-place a cut cable does cost the model that is there.
    """
    from ..progress import TransferBars
    from . import deploy as boards
    from . import rom, via_drive

    via = _carrier(via, ports, delay, drives)
    if (to == "rom" and (via != "mpremote" or confirm or key or in_place)) or (via == "drive" and confirm):
        raise click.UsageError("--to rom goes by mpremote, without slots; on a drive the trial cannot be left out")
    if to == "rom" or in_place:
        what = "what is in ROMFS" if to == "rom" else "the model that runs there"
        _agree(f"Not safe against a cut: {what} is erased before the new model is there.", yes)
    with TransferBars(output.progress) as advance:

        def work(at):
            progress = functools.partial(advance, at or "board")
            if to == "rom":
                return rom.deploy(file, at, name, progress)
            if via == "drive":
                return via_drive.deploy(file, at, name, key, progress, in_place)
            return boards.deploy(file, at, name, confirm, key, progress, via, delay, in_place)

        found = boards.on_each(drives if via == "drive" else ports, work)
    output.result({"boards": found}, lambda f: "\n".join(map(boards.render_deployed, f["boards"])))
    fail_with([board["error"] for board in found if "error" in board])
    for note in dict.fromkeys(map(boards.what_next, found)):
        if note:
            output.say(note)


def _carrier(via, ports, delay, drives):
    """Returns what carries: mpremote, ampy or drive. Raises UsageError where the options do not go together."""
    via = via or ("drive" if drives else "mpremote")
    if (drives and via != "drive") or (ports and via == "drive") or (delay is not None and via != "ampy"):
        raise click.UsageError("--port is for mpremote and ampy, --delay for ampy, --drive for a drive")
    return via


def _agree(warning, yes):
    """Asks whether to go on, unless --yes was given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{warning} Nobody is there to ask; add --yes")
    click.confirm(f"{warning} Go on?", abort=True, err=True)


_slot_name = click.argument("name", required=False, metavar="[NAME]")


@verb("rollback", "attn8 rollback gesture --port a0", _slot_name, _ports, _via, _delay, _drives)
def rollback(output, name, ports, via, delay, drives):
    """Go back to the model that boards had before the last deploy."""
    from . import deploy as boards
    from . import via_drive

    if _carrier(via, ports, delay, drives) == "drive":
        found = boards.on_each(drives, lambda drive: via_drive.rollback(drive, name))
    else:
        found = boards.on_each(ports, lambda port: boards.rollback(port, name, via or "mpremote", delay))
    output.result({"boards": found}, lambda f: "\n".join(map(boards.render_rolled_back, f["boards"])))
    fail_with([board["error"] for board in found if "error" in board])


@verb("status", "attn8 status --port a0", _slot_name, _ports, _via, _delay, _drives)
def status(output, name, ports, via, delay, drives):
    """Show the slots on boards: which model is active, which is in trial, which can be gone back to."""
    from . import deploy as boards
    from . import via_drive

    if _carrier(via, ports, delay, drives) == "drive":
        found = boards.on_each(drives, lambda drive: via_drive.status(drive, name))
    else:
        found = boards.on_each(ports, lambda port: boards.status(port, name, via or "mpremote", delay))
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


def sensor_options(command):
    """The options that describe a sensor, of capture and monitor."""
    own = "a name of sensors.toml (mpu6050, mpu6500, lsm6ds3, adxl345), adc, i2s, or your own FILE.py"
    for option in (
        click.option("--shift", type=click.IntRange(0, 31), default=16, show_default=True, help="i2s: bits cut off."),
        click.option("--fifo", is_flag=True, help="Take the samples from the sensor's buffer, at its own clock."),
        click.option("--address", callback=_address, help="On the I2C bus, such as 0x69."),
        click.option("--pins", help="sda=4,scl=5 for I2C; 26,27 for adc; sck=16,ws=17,sd=18 for i2s."),
        click.option("--rate", type=click.FloatRange(0.1, 48000), help="Samples a second: 50, of i2s 16000."),
        click.option("--sensor", required=True, metavar="SENSOR", help=f"What to read: {own}."),
    ):
        command = option(command)
    return command


def _address(context, parameter, text):
    try:
        found = text if text is None else int(text, 0)
    except ValueError:
        found = -1
    if found is not None and not 0 <= found <= 127:
        raise click.BadParameter(f"got {text!r}, expected 0x00 to 0x7f")
    return found


@verb(
    "capture",
    "attn8 capture data --sensor mpu6050 --labels circle,shake,nothing --person anna",
    click.argument("folder", default="data", type=click.Path(file_okay=False)),
    _port,
    sensor_options,
    click.option("--labels", help="Names with commas; keys 1, 2, ... or their first letters choose one."),
    click.option("--label", help="Record this one at once; without a terminal, with --seconds."),
    click.option("--person", default="me", show_default=True, help="Who moves; training holds back whole people."),
    click.option("--seconds", type=click.FloatRange(0.1), help="Record so long in all, then end."),
)
def capture(output, folder, port, labels, label, person, seconds, sensor, **options):
    """Record a sensor on a board into FOLDER/LABEL/PERSON_n.csv or .wav; space pauses, q ends. Replaces nothing."""
    from ..keyboard import Keyboard
    from ..progress import StatusLine
    from . import capture as boards
    from .sensors import open_sensor

    source = open_sensor(sensor, options.pop("rate"), **options)
    with Keyboard() as keyboard, StatusLine(output.progress) as line:
        labels, label = boards.choose_labels(folder, labels, label, keyboard.is_terminal)
        if seconds is None and not keyboard.is_terminal:
            raise click.UsageError("no terminal to end it by a key: give --seconds")
        output.say(f"{source.name} at {source.rate_hz:g} Hz: {', '.join(source.columns)}")
        if keyboard.is_terminal:
            output.say(boards.describe_keys(labels))
        found = boards.capture(
            *(folder, source, port, labels, label, person, seconds, keyboard), lambda session: line(session.describe())
        )
    output.result(found, boards.render)
    for remark in boards.remarks(found, source):
        output.say(remark)
    fail_with([found["error"]] if found["error"] else [])


@verb(
    "monitor",
    "attn8 monitor gesture --sensor mpu6050 --log today.csv\n  attn8 monitor model.a8 --sensor sensor.py --seconds 60",
    click.argument("name", required=False, metavar="[NAME|FILE]"),
    _port,
    sensor_options,
    click.option("--log", type=click.Path(dir_okay=False), help="CSV file to make: time, label, scores."),
    click.option("--seconds", type=click.FloatRange(0.1), help="Watch so long; without it until Ctrl-C."),
)
def monitor(output, name, port, log, seconds, sensor, rate, **options):
    """Show what a model on a board says of a live sensor, at every hop, with the score of each class."""
    from ..progress import Panel
    from . import monitor as boards
    from .sensors import open_sensor

    with Panel(not output.json and not output.quiet) as panel:

        def begin(model, source):
            output.say(f"'{model.name}' v{model.version} {model.id} on {source.name} at {source.rate_hz:g} Hz")
            panel.labels = model.labels

        def show(hop):
            panel.show(boards.bars(hop, panel.labels), boards.render_hop(hop, panel.labels))

        used = []

        def sensor_of(hz):
            used.append(open_sensor(sensor, rate or hz or None, **options))
            return used[0]

        found = boards.monitor(name, sensor_of, port, log, seconds, show, begin)
    output.result(found, boards.render)
    for remark in boards.remarks(found, used[0]):
        output.say(remark)
    fail_with([found["error"]] if found["error"] else [])
