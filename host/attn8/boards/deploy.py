"""Brings a model into the slot of a board that can be spared, checks it there, and only then switches; or goes back.

The board does the work that must not fail: device/attn8/slots.py and deploy.py say what survives a cut at any moment.
"""

import contextlib
import hashlib
import hmac
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import Attn8Error
from . import BoardError, DoesNotFitError
from .board_code import board_code
from .facts import (
    ATTN8,
    FACTS,
    FACTS_SHAPE,
    PACKAGE_SHAPE,
    SLOTS,
    SLOTS_SHAPE,
    Package,
    facts_of,
    read_package,
    slots_of,
)
from .link import CABLE, RemoteError, answer, file_error, open_link, question
from .shape import COUNT, WHOLE, Either

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}"
LOG_BYTES = 64  # of the records that this update appends; the log of a slot is begun anew each time
_MAX_KEY_BYTES = 1024  # what device/attn8/slots.py takes
_LOOK_S = 15  # importing the package from its sources; a file system that collects garbage
_ROLLBACK_S = 60  # the window of a model that the computer does not know
_QUIET_S = 10
_SLOWER = 4  # than what a window is expected to take
_CHECK_S_PER_BYTE = {"native": 1e-5}  # check_model, and reading the file from a slow medium
_CHECK_S_PER_BYTE_PYTHON = 2e-4
_CLOCK_HZ = 64_000_000  # of a board that does not tell
_STAYS = "the model in the other slot stays"


class DeployError(BoardError):
    """A board does not take a model, or cannot go back; the text says what it has now."""


@dataclass(frozen=True)
class Sent:
    """A model on its way to a board, checked.

    Attributes:
        slots: name of the slots.    data: bytes of the model.    signed: these with the signature, if there is one.
        model: what reference.parse tells.    name, version: of the model.
    """

    slots: str
    data: bytes
    signed: bytes
    model: object
    name: str
    version: str

    @property
    def numbers(self):
        """Length, CRC-32 and SHA-256 of what is sent."""
        return len(self.signed), zlib.crc32(self.signed), hashlib.sha256(self.signed).digest()

    def told(self):
        """Returns the part of a result that tells of the model."""
        return {"bytes": len(self.data), "model": self.name, "version": self.version, "id": self.model.id}


def read_sent(file, name=None, key=None):
    """Returns the Sent of a model file.

    Args:
        name: of the slots, by default that of the file.    key: path of the file whose bytes sign the model.

    Raises:
        attn8.ModelError, DataError: if the file is no valid model.    DeployError: if the name cannot be one of slots.
    """
    from .. import reference
    from ..model_file import check_file, read_model

    checked, data = check_file(file), read_model(file)
    signature = hmac.digest(read_key(key), data, hashlib.sha256) if key else b""
    model = reference.parse(data)
    return Sent(slot_name(file, name), data, data + signature, model, checked["name"], checked["version"])


def read_key(path):
    """Returns the bytes of a key file. Raises DeployError if they are none that a board takes."""
    try:
        with open(path, "rb") as file:
            key = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise DeployError(f"{path}: cannot be read ({error.strerror}); give --key the file with the key") from None
    if not 1 <= len(key) <= _MAX_KEY_BYTES:
        got = f"more than {_MAX_KEY_BYTES:,}" if key else "no"
        raise DeployError(
            f"{path}: got {got} bytes, expected a key of 1 to {_MAX_KEY_BYTES:,}, better 32 random ones; the board "
            "needs the same file as NAME.key"
        )
    return key


def slot_name(file, name=None):
    """Returns the name of the slots for a model file. Raises DeployError if it cannot be one."""
    return checked_name(name or Path(file).name.removesuffix(".a8"))


def checked_name(name):
    """Returns the name of slots. Raises DeployError if it cannot be one."""
    if not re.fullmatch(_NAME, name):
        raise DeployError(
            f"slot name: got {name!r}, expected up to 32 letters, digits, _ and -; give another with --name"
        )
    return name


def deploy(
    file, port=None, name=None, confirm=False, key=None, progress=None, via="mpremote", delay_s=None, in_place=False
):
    """Deploys a model to one board over its serial line.

    Args:
        file: path of a .a8 file.    port: see link.open_link.    name: of the slots, by default that of the file.
        confirm: no trial: the model is good at once.    key: path of the file whose bytes sign the model; the board
            has the same bytes as <name>.key.    progress: called with (file, bytes done, bytes in all).
        via: "mpremote" or "ampy", and how long that waits before each command.
        in_place: give up the model that runs first, on a board with room for one; a fault leaves it without any.

    Returns:
        dict: port, machine, name (of the slots), slot, sequence, state, bytes, check ("sha256" or "crc32": what the
        board compared), model, version, id, before (None, or model, version, id that was active).

    Raises:
        attn8.ModelError, DataError: if the file is no valid model.    DoesNotFitError: if flash or heap is too small.
        DeployError: if the board refuses it.    LinkError.
    """
    sent = read_sent(file, name, key)
    with _opened(port, via, delay_s) as link:
        board = _look(link, sent.slots)
        slots = board.slots[sent.slots]
        _check_flash(link, board, sent, in_place)
        with _stays(link, in_place):
            path, heap_free = _begin(link, board, sent, in_place)
        if path is None:
            raise _too_big(link, sent, heap_free)
        with _stays(link, in_place):
            came = _carry(link, path, sent, progress)
            check, row = _finish(link, board, sent, path, confirm, came)
    return {
        **{"port": link.device, "machine": board.facts.machine, "name": sent.slots},
        **{**short(row, "slot", "sequence", "state"), "check": check, **sent.told(), "before": before(slots)},
    }


def before(slots):
    """Returns the part of a result that tells of the model that was active, None without."""
    active = next((s for s in slots if s["active"]), None)
    return active and {"model": active["name"], **short(active, "version", "id")}


def short(row, *keys):
    """Returns a dict with some of the keys."""
    return {key: row[key] for key in keys}


@contextlib.contextmanager
def _opened(port, via, delay_s=None):
    """Gives a Link or an AmpyLink."""
    from .via_ampy import AmpyLink

    with AmpyLink(port, delay_s) if via == "ampy" else open_link(port) as link, making_sense(link.device):
        yield link


@contextlib.contextmanager
def making_sense(device):
    """Gives a sentence that helps for what a board raises that no model or file can cause."""
    try:
        yield
    except RemoteError as error:
        found = file_error(device, error, "a slot", LOG_BYTES)
        if found is not error:  # full, or read-only
            raise found from None
        raise DeployError(
            f"{error}, as after a damaged command; {CABLE}; if it says so again: attn8 install --port {device}"
        ) from None


@contextlib.contextmanager
def _stays(link, in_place):
    """Has every error of an update in place say that there may be no model now."""
    try:
        with making_sense(link.device):
            yield
    except BoardError as error:
        if not in_place:
            raise
        text = str(error).replace(f"; {_STAYS}", "")
        raise type(error)(f"{text}; without the slot to spare the board may have no model now: deploy one") from None


@dataclass(frozen=True)
class _Board:
    """A board before an update: Facts, Package, {name: slots as read_slots tells}, {name: bytes of the files}."""

    facts: object
    package: Package
    slots: dict
    file_bytes: dict


def check_package(link):
    """Returns the Package of a board that has slots. Raises DeployError with the command that brings it."""
    try:
        package = read_package(link)
    except RemoteError as error:
        raise _broken(link, error.kind, error.message) from None
    if package is None:
        raise no_package(link)
    try:
        link.exec(SLOTS)
    except RemoteError as error:
        if error.kind != "ImportError":
            raise
        raise _too_old(link, package) from None
    return package


def no_package(link):
    """Returns what to raise where attn8 is not on a board."""
    return DeployError(f"{link.device}: attn8 is not on the board: attn8 install --port {link.device}")


def _broken(link, kind, text):
    return DeployError(
        f"{link.device}: attn8 is there but does not run ({kind}: {text}): attn8 install --port {link.device}"
    )


def _too_old(link, package):
    return DeployError(
        f"{link.device}: attn8 {package.version} there has no slots; update it: attn8 install --port {link.device}"
    )


def _look(link, name=None):
    """Returns the _Board of a link, with the slots of one name or of all.

    Raises:
        DeployError: if attn8 is not there, does not run or has no slots; the text has the command that brings it.
    """
    told, package, slots = _ask(link, f"_look({name!r})", _LOOK, _LOOK_S, FACTS + ATTN8)
    if package is None:
        raise no_package(link)
    if len(package) == 2:
        raise _broken(link, *package)
    package = Package(*package)
    if slots is None:
        raise _too_old(link, package)
    rows = {n: slots_of(rows) for n, (rows, _) in sorted(slots.items())}
    return _Board(facts_of(link, told), package, rows, {n: sizes for n, (_, sizes) in slots.items()})


_LOOK = (
    *(FACTS_SHAPE, Either(None, PACKAGE_SHAPE, (str, str))),
    Either(None, {str: (SLOTS_SHAPE, (COUNT, COUNT))}),
)


def _ask(link, call, shape, timeout, setup=""):
    """Returns what a call of a function of on_board/updating.py returns, which has a shape.

    The board runs none of it if it arrives damaged, and keeps none of it: a model that is tested needs the heap.
    """
    code = setup + board_code("updating", call.partition("(")[0])
    names = re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE)
    asked = f"{question(call)}\nfor _c in {names}:\n globals().pop(_c)\n_r = None"
    sums = [(len(text), sum(text.encode())) for text in (code, asked)]
    return answer(link.device, link.exec(_GUARDED.format(code=code, asked=asked, sums=sums), timeout), shape)


_GUARDED = """
_c, _q = {code!r}, {asked!r}
if [(len(c), sum(c.encode())) for c in (_c, _q)] != {sums}:
 raise SyntaxError
exec(_c)
_c = None
exec(_q)
"""


def quiet_s(facts, package, sent):
    """Returns after how many seconds without a sign of life a board that tests this model counts as lost."""
    from ..device.repl import CYCLES_PER_MAC
    from ..profile import macs

    cycles = CYCLES_PER_MAC.get(package.backend, CYCLES_PER_MAC["native armv6m portable"])
    window_s = macs(sent.data)[0] * cycles / (facts.clock_hz or _CLOCK_HZ)
    check_s = len(sent.signed) * _CHECK_S_PER_BYTE.get(package.backend, _CHECK_S_PER_BYTE_PYTHON)
    return _QUIET_S + _SLOWER * window_s + check_s


def _check_flash(link, board, sent, in_place):
    """Raises DoesNotFitError if the slot that can be spared has no room for the model."""
    facts, sizes = board.facts, board.file_bytes[sent.slots]
    if facts.flash_free is None:
        return
    block = facts.block_bytes
    given_back = sizes if in_place else [sizes[_spare(board.slots[sent.slots])]]
    room = facts.flash_free + sum(-(-n // block) * block for n in given_back)
    needed = -(-(len(sent.signed) + LOG_BYTES) // block) * block
    if needed > room:
        beside = "" if in_place else " beside the one that runs"
        raise DoesNotFitError(
            f"{link.device}: the board is full: the model needs {needed:,} bytes of flash{beside}, "
            f"{room:,} are free; remove files there (mpremote rm), take a smaller model{_or_in_place(board, sent)}"
        )


def _or_in_place(board, sent):
    """Returns the end of a sentence, where giving up the model that runs would make the room."""
    room = board.facts.flash_free + sum(board.file_bytes[sent.slots])
    return ", or give up the one that runs (--in-place)" if len(sent.signed) + LOG_BYTES <= room else ""


def _spare(slots):
    """Returns the slot that begin will take: not the newest good one, without such not the active one."""
    kept = [s for s in slots if s["state"] == "good"] or [s for s in slots if s["active"]]
    return 1 - max(kept, key=lambda s: s["sequence"])["slot"] if kept else 0


def _begin(link, board, sent, in_place):
    """Returns the path of the slot to spare, emptied, or None if the heap has no room for the model; and the heap."""
    n_bytes, arena_bytes = len(sent.data), sent.model.arena_bytes
    sizes = [n_bytes, arena_bytes] + ([n_bytes] if board.package.backend == "python" else [])
    return _ask(link, f"_begin({sent.slots!r}, {sizes}, {in_place})", (Either(None, str), WHOLE), _LOOK_S)


def _too_big(link, sent, heap_free):
    there = f"{heap_free:,} bytes are free, in pieces" if heap_free >= 0 else "there is not as much"
    return DoesNotFitError(
        f"{link.device}: the model is too big for the heap: it takes {len(sent.data):,} bytes for the file and "
        f"{sent.model.arena_bytes:,} for the arena, each in one piece, {there}; make it smaller (attn8 info tells its "
        "bytes)"
    )


def _carry(link, path, sent, progress):
    """Brings the bytes to the board. Returns the file that they came in, None if that is the slot itself."""
    if link.via == "ampy":
        return link.put(sent.signed, f"{sent.slots}.put", progress)
    link.put(sent.signed, path, progress and (lambda *step: progress(path, *step)), check=False, where="_path")
    return None


_FINISHED = Either((None, str), (str, range(2), range(1 << 30), SLOTS_SHAPE))


def _finish(link, board, sent, path, confirm, came):
    """Lets the board compare, test the model and switch to it. Returns (check, row of its slot)."""
    asked = f"_finish({sent.slots!r}, {path!r}, {sent.numbers!r}, {confirm}, {came!r})"
    try:
        check, *done = _ask(link, asked, _FINISHED, quiet_s(board.facts, board.package, sent))
    except RemoteError as error:
        raise _refusal(link, error, path) from None
    if check is None:
        raise DeployError(f"{link.device}: the model arrived damaged ({done[0]}); {_STAYS}; {CABLE}")
    slot, sequence, rows = done
    row = slots_of(rows)[slot]
    if not row["active"] or (row["sequence"], row["id"]) != (sequence, sent.model.id):
        raise DeployError(f"{link.device}: slot {slot} does not hold what was sent; {CABLE}")
    return check, row


def _refusal(link, error, path):
    """Returns what to raise for what the board raised when it was to take the model."""
    if error.kind == "MemoryError":
        return DoesNotFitError(
            f"{link.device}: the model is too big for the heap: loading it failed ({error.message}); {_STAYS}; "
            "make it smaller (attn8 info tells its bytes)"
        )
    if error.kind == "OSError":
        return link.file_error(error, path, LOG_BYTES)
    if error.kind == "ModelError":
        return DeployError(f"{link.device}: the board refuses the model: {error.message}; {_STAYS}")
    return error


def rollback(port=None, name=None, via="mpremote", delay_s=None):
    """Goes back to the model before on one board.

    Args:
        port: see link.open_link.    name: of the slots; None for the only one there.    via, delay_s: see deploy.

    Returns:
        dict: port, name, slot, model, version, id of the model that is active now.

    Raises:
        DeployError: if there is none to go back to.    LinkError.
    """
    with _opened(port, via, delay_s) as link:
        board = _look(link, name and checked_name(name))
        name = name or only_name(link.device, board.slots)
        rows, why = _ask(link, f"_rollback({name!r})", Either((None, str), (SLOTS_SHAPE, str)), _ROLLBACK_S)
        if rows is None:
            raise DeployError(f"{link.device}: no rollback: {why}")
    return rolled_back(link.device, name, slots_of(rows))


def rolled_back(port, name, slots):
    """Returns the result of a rollback. Raises DeployError if no slot is active now."""
    row = next((s for s in slots if s["active"]), None)
    if row is None:
        raise DeployError(f"{port}: no model is active after the rollback; deploy one")
    return {"port": port, "name": name, "model": row["name"], **short(row, "slot", "version", "id")}


def status(port=None, name=None, via="mpremote", delay_s=None):
    """Returns a dict of one board: port, machine, firmware, backend, slots (list of dict: name and what
    facts.read_slots tells, of each name or of one). Raises DeployError without attn8 there.    LinkError.
    """
    with _opened(port, via, delay_s) as link:
        board = _look(link, name and checked_name(name))
    check_there(link.device, name, board.slots)
    head = {"port": link.device, "machine": board.facts.machine, "firmware": board.facts.firmware}
    return {**head, "backend": board.package.backend, "slots": slot_rows(board.slots)}


def check_there(where, name, slots):
    """Raises DeployError if a name was asked for and no slot of it holds anything."""
    if name and not any(row["bytes"] for row in slots.get(name, ())):
        raise DeployError(f"{where}: no slots named {name!r} there; attn8 status without a name lists what is")


def slot_rows(slots):
    """Returns the list of slots of status for {name: slots}."""
    return [{"slots": name, **row} for name, rows in slots.items() for row in rows]


def only_name(port, names):
    """Returns the only one of the slot names. Raises DeployError if there is another number of them."""
    if len(names) != 1:
        there = ", ".join(names) or "deploy a model first"
        raise DeployError(f"{port}: {len(names)} slot names there ({there}); give NAME")
    return next(iter(names))


def on_each(named, work):
    """Calls ``work(port)`` for several boards at once.

    Args:
        named: list of ports or drives; empty for the only board.

    Returns:
        list in that order of what work returned, or of dict: port, error, exit_code where it raised Attn8Error.
    """
    wanted = list(dict.fromkeys(named)) or [None]
    if len(wanted) == 1:
        return [work(wanted[0])]
    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(lambda port: _caught(port, work), wanted))


def _caught(port, work):
    try:
        return work(port)
    except (Attn8Error, OSError) as error:
        text = str(error)
        if port not in text:
            text = f"{port}: {text}"
        return {"port": port, "error": text, "exit_code": getattr(error, "exit_code", 1)}


def render_deployed(found):
    """Returns the line that ``attn8 deploy`` prints for a board."""
    if "error" in found:
        return f"{found['port']}: NOT deployed"
    before = found["before"]
    was = f"was '{before['model']}' v{before['version']} {before['id']}" if before else "the first there"
    where = f"in slot {found['slot']} of {found['name']}"
    checked = f"{found['check']} and golden vectors checked on the board"
    if found["state"] == "written":
        checked = f"{found['check']} checked here"
    if found["state"] == "rom":
        where = f"as {found['path']}"
    return (
        f"{found['port']}: '{found['model']}' v{found['version']} {found['id']} {where}, {found['state']} "
        f"({found['bytes']:,} bytes, {checked}; {was})"
    )


def what_next(found):
    """Returns a sentence about what makes the model stay, "" where nothing is left to be done."""
    if found["state"] == "trial":
        return "in trial: it becomes good by attn8.confirm() or after enough windows, else the board goes back"
    if found["state"] == "written":
        missing = "" if found["package"] else "; attn8 itself is not on the drive: copy it to lib/attn8"
        return (
            f"the board runs the golden vectors when it loads the model; eject the drive before you unplug it{missing}"
        )
    return ""


def render_rolled_back(found):
    """Returns the line that ``attn8 rollback`` prints for a board."""
    if "error" in found:
        return f"{found['port']}: NOT rolled back"
    return f"{found['port']}: '{found['model']}' v{found['version']} {found['id']} in slot {found['slot']} again"


def render_status(found):
    """Returns the rich table that ``attn8 status`` prints."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("port", "slots", "", "state", "boots", "sequence", "model", "version", "id", "bytes"):
        table.add_column(column, overflow="fold")
    for board in found:
        for row in board.get("slots", ()):
            numbers = row["state"], str(row["boots"]), str(row["sequence"])
            slot = f"{row['slot']}{' active' if row['active'] else ''}"
            model = row["name"], row["version"], row["id"], f"{row['bytes']:,}"
            table.add_row(board["port"], row["slots"], slot, *numbers, *model)
        if not board.get("slots"):
            table.add_row(board["port"], "cannot be read" if "error" in board else "none")
    return table
