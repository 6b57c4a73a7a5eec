"""What can be recorded: a motion sensor of sensors.toml, analog pins, a microphone, or a file of the user's."""

import ast
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..atomic import read_bytes
from . import BoardError
from .board_code import board_code, device_code
from .link import LinkError, RemoteError
from .shape import COUNT

TABLES = Path(__file__).with_name("sensors.toml")
_MOST_FILE_BYTES = 1 << 16
_MOST_CHANNELS = 32
_CHUNK = 512  # samples of a microphone in a block
_SETUP_S = 30
_AUDIO_HZ = (8000, 48000)
_MOST_POLLED_HZ = 5000
_CHANNEL = re.compile(r"([^\[\]]{1,32}?)(?: ?\[([^\[\]]{1,16})\])?")


class SensorError(BoardError):
    """A sensor is unknown, is not there, or cannot give what is asked."""


@dataclass(frozen=True)
class Sensor:
    """What the computer knows of a sensor before the board does.

    Attributes:
        name: as the user gave it.    channels: tuple of (name, unit).    rate_hz.
        counts_per_unit: tuple of float, counts of the numbers that arrive; () where they are units already.
        is_polled: read one by one at the board's clock; else it has a buffer and a clock of its own.
        setup: MicroPython that makes ``_source`` on the board, behind the files of ``files``.
        is_audio: a microphone.
    """

    name: str
    channels: tuple
    rate_hz: float
    counts_per_unit: tuple
    is_polled: bool
    setup: str
    files: tuple
    is_audio: bool = False

    @property
    def kind(self):
        """Type code of a number on its way: "h" int16 counts, "f" float32 units."""
        return "h" if self.counts_per_unit else "f"

    @property
    def columns(self):
        """Names with units, as in the header of a recording."""
        return [f"{name} [{unit}]" if unit else name for name, unit in self.channels]

    @property
    def may_buffer(self):
        """Whether --fifo would let it keep samples that are read one by one now."""
        return self.is_polled and self.name in fifo_names()

    @property
    def block_samples(self):
        """Samples in a block: a tenth of a second, and few enough for a small heap."""
        size = 2 if self.kind == "h" else 4
        return max(1, min(round(self.rate_hz / 10), 480 // (size * len(self.channels) + 2)))


@cache
def tables():
    """Returns {name: dict} of sensors.toml."""
    return tomllib.loads(TABLES.read_text(encoding="utf-8"))


def fifo_names():
    """Returns the names of sensors.toml with a FIFO."""
    return [name for name, table in tables().items() if "fifo" in table]


def open_sensor(name, rate_hz=None, pins=None, address=None, fifo=False, shift=16):
    """Returns the Sensor of a name.

    Args:
        name: of sensors.toml, adc, i2s, or the path of a .py file.    rate_hz: None takes the file's, 16000 or 50.
        pins: text such as "sda=4,scl=5", "26,27" or "sck=16,ws=17,sd=18".    address: on the bus, int.
        fifo: use the sensor's own buffer and clock.    shift: 0..31, what words of a microphone lose below.

    Raises:
        SensorError.
    """
    if fifo and name not in fifo_names():
        raise SensorError(f"--fifo: {name} has none here, expected one of {', '.join(fifo_names())}; leave it out")
    if name in tables():
        return _registers(name, rate_hz or 50, _named_pins(pins, ("sda", "scl")), address, fifo)
    if name == "adc":
        return _adc(rate_hz or 50, pins)
    if name == "i2s":
        return _microphone(rate_hz or 16000, _named_pins(pins, ("sck", "ws", "sd")), shift)
    if name.endswith(".py"):
        return _own(name, rate_hz)
    known = ", ".join([*tables(), "adc", "i2s"])
    raise SensorError(f"unknown sensor {name!r}; expected one of {known}, or your own FILE.py")


def _check_rate(rate_hz, least, most, what):
    if not least <= rate_hz <= most:
        raise SensorError(f"--rate: got {rate_hz:g} Hz, expected {least:g}..{most:g} Hz for {what}")


def _pin(text):
    """Returns a pin as MicroPython takes it: a number, or a name."""
    text = text.strip()
    if not re.fullmatch(r"\w{1,16}", text):
        raise SensorError(f"--pins: got {text!r}, expected the number or the name of a pin")
    return int(text) if text.isdigit() else text


def _named_pins(text, names):
    """Returns a tuple of pins by name, of None where there is no text."""
    if not text:
        return (None,) * len(names)
    parts = [part.partition("=") for part in text.split(",")]
    found = {key.strip(): value for key, _, value in parts}
    if set(found) != set(names) or not all(found.values()):
        raise SensorError(f"--pins: got {text!r}, expected {','.join(f'{name}=N' for name in names)}")
    return tuple(_pin(found[name]) for name in names)


# ---- each kind -----------------------------------------------------------------------------------------------------


def _registers(name, rate_hz, pins, address, fifo):
    table = tables()[name]
    _check_rate(rate_hz, 0.1, table["settings"][-1]["hz"], name)
    writes = next(s["writes"] for s in table["settings"] if s["hz"] >= rate_hz)
    sent = {key: table[key] for key in ("addresses", "who", "setup", "data", "channels")}
    setup = f"_source = Registers(open_bus(*{pins!r}), _table, {address!r}, {writes!r})"
    if fifo:
        sent["fifo"] = {key: value for key, value in table["fifo"].items() if key != "divider"}
        setup += f"\n_source = Fifo(_source, {rate_hz!r}, {_fifo_writes(name, table, rate_hz)!r})"
    channels = table["channels"]
    return Sensor(
        name=name,
        channels=tuple((c["name"], c["unit"]) for c in channels),
        rate_hz=rate_hz,
        counts_per_unit=tuple(c["counts_per_unit"] for c in channels),
        is_polled=not fifo,
        setup=f"_table = {sent!r}\n{setup}",
        files=("buses", "registers"),
    )


def _fifo_writes(name, table, rate_hz):
    """Returns the writes that make the sensor's own clock give a rate. Raises SensorError with rates that it has."""
    divider = table["fifo"].get("divider")
    if divider:
        n = round(divider["base_hz"] / rate_hz)
        if not 1 <= n <= 256 or abs(divider["base_hz"] / n - rate_hz) > 1e-6 * rate_hz:
            near = divider["base_hz"] / min(max(n, 1), 256)
            raise SensorError(
                f"--rate: {name} cannot give {rate_hz:g} Hz from its FIFO, expected {divider['base_hz']} divided by a "
                f"whole number up to 256; {near:g} is the nearest"
            )
        return [[divider["register"], n - 1]]
    rates = {s["hz"]: s["writes"] for s in table["settings"]}
    if rate_hz not in rates:
        known = ", ".join(map(str, rates))
        raise SensorError(f"--rate: {name} cannot give {rate_hz:g} Hz from its FIFO, expected one of {known}")
    return rates[rate_hz]


def _adc(rate_hz, pins):
    _check_rate(rate_hz, 0.1, _MOST_POLLED_HZ, "adc")
    if not pins:
        raise SensorError("--pins: got none, expected those of the ADC, such as --pins 26,27")
    found = [_pin(part) for part in pins.split(",")]
    return Sensor(
        name="adc",
        channels=tuple((f"adc{pin}", "") for pin in found),
        rate_hz=rate_hz,
        counts_per_unit=(32767.0,) * len(found),
        is_polled=True,
        setup=f"_source = Adc({found!r})",
        files=("inputs",),
    )


def _microphone(rate_hz, pins, shift):
    _check_rate(rate_hz, *_AUDIO_HZ, "i2s")
    if None in pins:
        raise SensorError("--pins: got none, expected those of the microphone, such as --pins sck=16,ws=17,sd=18")
    arguments = ", ".join(map(repr, (*pins, int(rate_hz), _CHUNK, shift)))
    return Sensor(
        name="i2s",
        channels=(("audio", ""),),
        rate_hz=int(rate_hz),
        counts_per_unit=(32768.0,),
        is_polled=False,
        setup=f"_source = Microphone({arguments}, i2s32)",
        files=("inputs",),
        is_audio=True,
    )


def _own(path, rate_hz):
    try:
        text = read_bytes(path, _MOST_FILE_BYTES).decode()
    except OSError as error:
        raise SensorError(f"{path}: {error.strerror}; expected a file with CHANNELS and read()") from None
    except UnicodeDecodeError:
        raise SensorError(f"{path}: got bytes that are no UTF-8, expected Python") from None
    except ValueError as error:
        raise SensorError(f"{path}: {error}; expected a file of at most {_MOST_FILE_BYTES:,} bytes") from None
    found = _assigned(path, text)
    channels = _own_channels(path, found)
    rate_hz = rate_hz or found.get("RATE_HZ") or 50
    _check_own_number(path, "RATE_HZ", rate_hz)
    _check_rate(rate_hz, 0.1, _MOST_POLLED_HZ, Path(path).name)
    counts = found.get("COUNTS_PER_UNIT", (1.0,) * len(channels) if "read_sample" in found["functions"] else ())
    counts = counts if isinstance(counts, (tuple, list)) else (counts,) * len(channels)
    for value in counts:
        _check_own_number(path, "COUNTS_PER_UNIT", value)
    if counts and len(counts) != len(channels):
        raise SensorError(f"{path}: COUNTS_PER_UNIT: got {len(counts)} numbers, expected {len(channels)}, as CHANNELS")
    return Sensor(
        name=Path(path).name,
        channels=channels,
        rate_hz=rate_hz,
        counts_per_unit=tuple(map(float, counts)),
        is_polled=True,
        setup=f"_names = {{'__name__': 'sensor'}}\nexec({text!r}, _names)\n_source = Own(_names)",
        files=("inputs",),
    )


def _assigned(path, text):
    """Returns {name: value} of the literals at the top of a file, and "functions", a set of names; runs nothing."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SensorError(f"{path}: no Python: {error or 'nested too deep'}") from None
    found = {"functions": {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except (ValueError, TypeError, RecursionError, MemoryError):  # no literal, such as {[]: 1}
                continue
    if not found["functions"] & {"read", "read_sample"}:
        raise SensorError(f"{path}: no function read() that returns numbers, nor read_sample(out) that writes counts")
    return found


def _check_own_number(path, name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise SensorError(f"{path}: {name}: got {value!r}, expected a number above 0")


def _own_channels(path, found):
    channels = found.get("CHANNELS")
    channels = (channels,) if isinstance(channels, str) else channels
    if not isinstance(channels, (tuple, list)) or not 1 <= len(channels) <= _MOST_CHANNELS:
        raise SensorError(f'{path}: expected CHANNELS = ("ax [g]", ...), up to {_MOST_CHANNELS} names with units')
    matches = [
        _CHANNEL.fullmatch(c) if isinstance(c, str) and c.isprintable() and "," not in c else None for c in channels
    ]
    if not all(matches):
        bad = channels[matches.index(None)]
        raise SensorError(f"{path}: CHANNELS: got {bad!r}, expected a name and its unit in brackets, as in 'ax [g]'")
    names = tuple((m[1].strip(), (m[2] or "").strip()) for m in matches)
    if len(dict(names)) != len(names):
        raise SensorError(f"{path}: CHANNELS: got a name twice, expected a different one for each channel")
    return names


# ---- on the board --------------------------------------------------------------------------------------------------


def prepare(link, sensor, *programs):
    """Makes ``_source`` on the board, and ``_sampler`` where it is polled; behind it stand the programs' functions.

    Raises:
        SensorError: if the sensor does not answer, is another, or is too slow for the rate.    LinkError.
    """
    link.exec(device_code("sampler"))
    if sensor.is_audio:
        _send_converter(link)
    for name in (*sensor.files, "blocks", "capture", *programs):
        link.exec(board_code(name))
    try:
        link.exec(sensor.setup, timeout=_SETUP_S)
    except RemoteError as error:
        raise SensorError(f"{link.device}: {sensor.name}: {_told(error)}") from None
    if sensor.is_polled:
        link.exec(f"_sampler = Sampler(None, {sensor.rate_hz!r})")
        _check_speed(link, sensor)


def _send_converter(link):
    """Sends i2s32, as machine code where the board makes it."""
    try:
        link.exec(device_code("_samples_viper"))
    except LinkError:  # a firmware without the emitter takes it for a damaged command
        link.exec(device_code("_samples_python"))


def _told(error):
    """Returns what went wrong with a sensor, for a person."""
    if error.kind == "ValueError":
        return error.message
    if error.kind == "OSError":
        return f"it does not answer ({error.message}): check wires, power and pins"
    if error.kind == "ImportError":
        return f"this firmware lacks what it needs ({error.message})"
    return f"{error.kind}: {error.message}"


def _check_speed(link, sensor):
    try:
        us = link.eval(f"read_us(_source, {sensor.kind!r}, {len(sensor.channels)})", _SETUP_S, shape=COUNT)
    except RemoteError as error:
        raise SensorError(f"{link.device}: {sensor.name}: {_told(error)}") from None
    if us * sensor.rate_hz > 1e6:
        raise SensorError(
            f"{link.device}: {sensor.name}: a sample takes {us / 1000:.1f} ms to read, too long for "
            f"{sensor.rate_hz:g} Hz; expected --rate {int(8e5 / us) or 1} or less"
        )
