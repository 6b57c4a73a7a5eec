"""What is at the end of a link: firmware, processor, room, attn8 and the models there."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import BoardError
from .link import LinkError, RemoteError, open_link, ports
from .shape import COUNT, Either

# py/persistentcode.h: the number of each architecture in sys.implementation._mpy.
ARCHS = (
    *("", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp", "xtensa", "xtensawin"),
    *("rv32imc", "rv64imc"),
)
NAMES = {"micropython": "MicroPython", "circuitpython": "CircuitPython"}  # of sys.implementation.name
COMPUTERS = ("linux", "darwin", "win32", "webassembly")  # sys.platform of a MicroPython that is no board
STATES = ("empty", "written", "trial", "good", "bad")
_EMPTY, _TRIAL, _GOOD = 0, 2, 3
_TRIAL_BOOTS = 3
_HEAD_BYTES = 100  # header and the longest names


@dataclass(frozen=True)
class Facts:
    """What a board says of itself.

    Attributes:
        implementation: "micropython" or "circuitpython".    version: tuple of 3 int.    machine: its name.
        mpy: (version, sub-version) of .mpy files that it loads; (0, 0) for none.
        arch: a name of ARCHS; "" where native code cannot be loaded.    word_bits: 31 or less in a small int is 32.
        clock_hz: None where it is not told.    is_computer: its times say nothing about a board.
        heap_free, flash_free: bytes; None where it is not told.    block_bytes: of the file system.
        path: sys.path.
    """

    implementation: str
    version: tuple
    machine: str
    platform: str
    mpy: tuple
    arch: str
    word_bits: int
    clock_hz: int | None
    heap_free: int | None
    flash_free: int | None
    block_bytes: int
    path: tuple
    is_computer: bool

    @property
    def firmware(self):
        """Implementation and version as a person writes them."""
        name = NAMES.get(self.implementation, self.implementation)
        return f"{name} {'.'.join(map(str, self.version))}"

    @property
    def mpy_version(self):
        """Such as "6.3"."""
        return f"{self.mpy[0]}.{self.mpy[1]}"


FACTS = """
def _facts():
 import gc, os, sys
 i = sys.implementation
 clock = heap = files = None
 gc.collect()
 if hasattr(gc, "mem_free"):
  heap = gc.mem_free()
 try:
  s = os.statvfs("/")
  files = s[0], s[1], s[4]
 except (AttributeError, OSError):
  pass
 try:
  import machine
  clock = machine.freq()
 except (ImportError, AttributeError):
  try:
   import microcontroller
   clock = microcontroller.cpu.frequency
  except ImportError:
   pass
 if isinstance(clock, tuple):
  clock = clock[0]
 name = getattr(i, "_machine", "") or os.uname().machine
 bits = 64 if sys.maxsize > 1 << 32 else 32
 mpy = getattr(i, "_mpy", 0)
 return i.name, tuple(i.version)[:3], name, sys.platform, mpy, bits, clock, heap, files, tuple(sys.path)
"""


_FILES = (range(1, 1 << 24), COUNT, COUNT)
FACTS_SHAPE = (
    *(str, [COUNT], str, str, COUNT, range(65), Either(None, range(1 << 40)), Either(None, COUNT)),
    *(Either(None, _FILES), [str]),
)


def read_facts(link):
    """Returns the Facts of the board of a Link. Raises LinkError."""
    return facts_of(link, link.eval("_facts()", setup=FACTS, shape=FACTS_SHAPE))


def facts_of(link, told):
    """Returns the Facts for what _facts() told on the board of a Link."""
    name, version, machine, platform, mpy, bits, clock, heap, files, path = told
    arch = mpy >> 10 & 15
    return Facts(
        implementation=name,
        version=version,
        machine=machine,
        platform=platform,
        mpy=(mpy & 255, mpy >> 8 & 3),
        arch=ARCHS[arch] if arch < len(ARCHS) else "",
        word_bits=bits,
        clock_hz=clock,
        heap_free=heap,
        flash_free=files and files[1] * files[2],
        block_bytes=files[0] if files else 512,
        path=path,
        is_computer=link.is_pty or platform in COMPUTERS,
    )


ATTN8 = """
def _attn8():
 try:
  import attn8
 except ImportError as e:
  return None
 try:
  import _attn8
 except (ImportError, ValueError) as e:
  return attn8.__version__, attn8.backend, "", type(e).__name__ + ": " + str(e)
 return attn8.__version__, attn8.backend, "file" if hasattr(_attn8, "__file__") else "firmware", ""
"""


@dataclass(frozen=True)
class Package:
    """The device package on a board: its version, back end, where _attn8 is ("file", "firmware", "") or why not."""

    version: str
    backend: str
    native: str
    error: str


PACKAGE_SHAPE = (str,) * 4


def read_package(link):
    """Returns the Package on a board, None if there is none.

    Raises:
        RemoteError: if it is there and cannot be imported.    LinkError.
    """
    found = link.eval("_attn8()", 60, ATTN8, Either(None, PACKAGE_SHAPE))
    return found and Package(*found)


_HEAD = "with open({path!r}, 'rb') as _f:\n _b = _f.read({n})"
SLOTS = "_s = __import__('attn8.slots', None, None, ('*',))"


_SLOT = (range(2), range(1 << 30), COUNT, range(len(STATES)), range(256), str, str, str)
SLOTS_SHAPE = (_SLOT, _SLOT)


def read_slots(link, name):
    """Returns a list of dict of the two slots of a name: slot, sequence, bytes, state, boots, name, version, id,
    active.

    Raises:
        LinkError: also if the attn8 there is too old to have slots.
    """
    return slots_of(link.eval(f"_s.status({name!r})", 60, SLOTS, SLOTS_SHAPE))


def slots_of(rows):
    """Returns what read_slots returns, for what attn8.slots.status told."""
    keys = ("slot", "sequence", "bytes", "state", "boots", "name", "version", "id")
    slots = [dict(zip(keys, row, strict=True)) for row in rows]
    worn = [s for s in slots if _EMPTY < s["state"] <= _TRIAL and not _usable(s)]
    newest = max((s for s in slots if _usable(s)), key=lambda s: s["sequence"], default=None)
    active = newest or min(worn, key=lambda s: s["sequence"], default=None)
    return [{**s, "state": STATES[s["state"]], "active": s is active} for s in slots]


def _usable(slot):
    in_trial = _EMPTY < slot["state"] <= _TRIAL
    return slot["state"] == _GOOD or (in_trial and slot["boots"] < _TRIAL_BOOTS)


def read_models(link, with_slots):
    """Returns a list of dict of the models at the top of the file system: file, name, version, id, bytes, and state
    and boots of a slot. Of two slots the active one is listed, under the name that load takes.

    Args:
        with_slots: whether the attn8 package there can tell.
    """
    files = {name: size for name, is_folder, size in link.listdir("/") if name.endswith(".a8") and not is_folder}
    slots = {found[1] for found in (re.fullmatch(r"(.+)\.[01]\.a8", name) for name in files) if found}
    models = []
    if with_slots:
        for name in sorted(slots):
            files = {f: size for f, size in files.items() if f not in (f"{name}.0.a8", f"{name}.1.a8")}
            models += [{"file": name, **s} for s in read_slots(link, name) if s["active"]]
    return models + [_head(link, name, size) for name, size in sorted(files.items())]


def _head(link, file, n_bytes):
    """Returns what the first bytes of a model file say."""
    head = link.eval("_b", setup=_HEAD.format(path=f"/{file}", n=_HEAD_BYTES), shape=bytes)
    if len(head) < 36 or head[:4] != b"ATN8":
        return {"file": file, "name": "", "version": "", "id": "", "bytes": n_bytes, "error": "no attn8 model"}
    n, n_version = head[32], head[33]
    name, version = (part.decode(errors="replace") for part in (head[36 : 36 + n], head[36 + n : 36 + n + n_version]))
    return {"file": file, "name": name, "version": version, "id": head[16:24].hex(), "bytes": n_bytes}


def devices(named=()):
    """Returns a list of dict of the boards that are plugged in, or that are named: port, id, and either error or
    implementation, version, firmware, machine, mpy, arch, attn8 (None, or version, backend, native, error), models.
    """
    found = [(port, "") for port in named] or [(p.device, p.id) for p in ports()]
    if not found:
        raise LinkError("no board: no USB serial port is there; plug one in with a data cable, or give --port")
    with ThreadPoolExecutor(len(found)) as pool:
        return list(pool.map(lambda port: _device(*port), found))


def _device(port, serial_number):
    head = {"port": port, "id": serial_number}
    try:
        with open_link(port) as link:
            return {**head, "port": link.device, **_described(link)}
    except BoardError as error:
        return {**head, "error": str(error)}


def _described(link):
    facts = read_facts(link)
    try:
        package = read_package(link)
        shown = package and vars(package)
    except RemoteError as error:
        package, shown = None, {"version": "", "backend": "", "native": "", "error": f"{error.kind}: {error.message}"}
    return {
        "implementation": facts.implementation,
        "version": ".".join(map(str, facts.version)),
        "firmware": facts.firmware,
        "machine": facts.machine,
        "mpy": facts.mpy_version,
        "arch": facts.arch,
        "attn8": shown,
        "models": _models(link, package),
    }


def _models(link, package):
    try:
        return read_models(link, package is not None)
    except RemoteError:  # an attn8 without slots
        return read_models(link, False)


def render_devices(found):
    """Returns the rich table that ``attn8 devices`` prints."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("port", "firmware", "machine", "_attn8", "model", "version", "id"):
        table.add_column(name, overflow="fold")
    for device in found["devices"]:
        if "error" in device:
            table.add_row(device["port"], "cannot be read")
            continue
        head = device["port"], device["firmware"], device["machine"], _native(device["attn8"])
        for i, model in enumerate(device["models"] or [{}]):
            row = _model_name(model), model.get("version", ""), model.get("id", "")
            table.add_row(*(("",) * len(head) if i else head), *row)
    return table


def _native(package):
    if package is None:
        return "no attn8"
    if package["native"]:
        return f"yes, in the {package['native']}" if package["native"] == "firmware" else "yes"
    return f"no, {package['backend']}" if package["backend"] else f"attn8 is broken: {package['error']}"


def _model_name(model):
    if not model:
        return "no model"
    state = f" ({model['state']})" if "state" in model else ""
    return f"{model['file']}: {model['name'] or model['error']}{state}"
