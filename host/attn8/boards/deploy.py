"""Brings a model into the slot of a board that can be spared, checks it there, and only then switches; or goes back.

The board does the work that must not fail: device/attn8/slots.py and deploy.py say what survives a cut at any moment.
"""

import hashlib
import hmac
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import Attn8Error
from . import BoardError, DoesNotFitError
from .facts import SLOTS, read_facts, read_package, read_slots
from .link import RemoteError, open_link

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}"
_LOG_BYTES = 64  # of the records that this update appends; the log of a slot is begun anew each time
_BOARD_S = 300  # golden vectors of a large model in bytecode
_STAYS = "the model in the other slot stays"


class DeployError(BoardError):
    """A board does not take a model, or cannot go back; the text says what it has now."""


def deploy(file, port=None, name=None, confirm=False, key=None, progress=None):
    """Deploys a model to one board.

    Args:
        file: path of a .a8 file.    port: see link.open_link.    name: of the slots, by default that of the file.
        confirm: no trial: the model is good at once.    key: path of the file whose bytes sign the model; the board
            has the same bytes as <name>.key.    progress: called with (file, bytes done, bytes in all).

    Returns:
        dict: port, machine, name (of the slots), slot, sequence, state, bytes, check ("sha256" or "crc32": what the
        board compared), model, version, id, before (None, or model, version, id that was active).

    Raises:
        attn8.ModelError, DataError: if the file is no valid model.    DoesNotFitError: if flash or heap is too small.
        DeployError: if the board refuses it.    LinkError.
    """
    from .. import reference
    from ..model_file import check_file, read_model

    checked, data = check_file(file), read_model(file)
    name = slot_name(file, name)
    model = reference.parse(data)
    signed = data + (hmac.digest(Path(key).read_bytes(), data, hashlib.sha256) if key else b"")
    with open_link(port) as link:
        facts, package = read_facts(link), check_package(link)
        slots = read_slots(link, name)
        _check_flash(link, facts, name, slots, len(signed))
        _check_heap(link, package, len(data), model.arena_bytes)
        path = link.eval(f"_s.begin({name!r})", _BOARD_S, SLOTS)
        check = _send(link, path, signed, progress)
        row = _accept(link, name, path, confirm, model.id)
    before = next((s for s in slots if s["active"]), None)
    return {
        **{"port": link.device, "machine": facts.machine, "name": name, **_short(row, "slot", "sequence", "state")},
        **{"bytes": len(data), "check": check, "model": checked["name"], "version": checked["version"]},
        **{"id": model.id, "before": before and {"model": before["name"], **_short(before, "version", "id")}},
    }


def _short(row, *keys):
    return {key: row[key] for key in keys}


def slot_name(file, name=None):
    """Returns the name of the slots for a model file. Raises DeployError if it cannot be one."""
    found = name or Path(file).name.removesuffix(".a8")
    if not re.fullmatch(_NAME, found):
        raise DeployError(
            f"slot name: got {found!r}, expected up to 32 letters, digits, _ and -; give another with --name"
        )
    return found


def check_package(link):
    """Returns the Package of a board that has slots. Raises DeployError with the command that brings it."""
    install = f"attn8 install --port {link.device}"
    try:
        package = read_package(link)
    except RemoteError as error:
        raise DeployError(
            f"{link.device}: attn8 is there but does not run ({error.kind}: {error.message}): {install}"
        ) from None
    if package is None:
        raise DeployError(f"{link.device}: attn8 is not on the board: {install}")
    try:
        link.exec(SLOTS)
    except RemoteError as error:
        if error.kind != "ImportError":
            raise
        raise DeployError(f"{link.device}: attn8 {package.version} there has no slots; update it: {install}") from None
    return package


def _check_flash(link, facts, name, slots, n_bytes):
    """Raises DoesNotFitError if the slot that can be spared has no room for the model."""
    if facts.flash_free is None:
        return
    found = link.stat(f"{name}.{_spare(slots)}.a8")
    room = facts.flash_free + (found[1] if found else 0)
    needed = -(-(n_bytes + _LOG_BYTES) // facts.block_bytes) * facts.block_bytes
    if needed > room:
        raise DoesNotFitError(
            f"{link.device}: the board is full: the model needs {needed:,} bytes of flash beside the one that runs, "
            f"{room:,} are free; remove files there (mpremote rm) or take a smaller model"
        )


def _spare(slots):
    """Returns the slot that begin will take: not the newest good one, without such not the active one."""
    kept = [s for s in slots if s["state"] == "good"] or [s for s in slots if s["active"]]
    return 1 - max(kept, key=lambda s: s["sequence"])["slot"] if kept else 0


_TRY_HEAP = """
def _try(sizes):
 import gc
 gc.collect()
 free = gc.mem_free() if hasattr(gc, "mem_free") else -1
 try:
  kept = [bytearray(n) for n in sizes]
  return 0, free
 except MemoryError:
  return 1, free
"""


def _check_heap(link, package, n_bytes, arena_bytes):
    """Raises DoesNotFitError if the board cannot hold the file and the arena, each in one piece."""
    sizes = [n_bytes, arena_bytes] + ([n_bytes] if package.backend == "python" else [])
    failed, free = link.eval(f"_try({sizes})", setup=_TRY_HEAP)
    if failed:
        raise _too_big(link, n_bytes, arena_bytes, free)


def _too_big(link, n_bytes, arena_bytes, free):
    there = f"{free:,} bytes are free, in pieces" if free >= 0 else "there is not as much"
    return DoesNotFitError(
        f"{link.device}: the model is too big for the heap: it takes {n_bytes:,} bytes for the file and "
        f"{arena_bytes:,} for the arena, each in one piece, {there}; make it smaller (attn8 info tells its bytes)"
    )


def _send(link, path, data, progress):
    """Writes the file into the slot. Returns the name of the check that the board made."""
    link.put(data, path, progress and (lambda done, total: progress(path, done, total)), check=False)
    numbers = len(data), zlib.crc32(data), hashlib.sha256(data).digest()
    try:
        return link.eval(f"_s.verify({path!r}, *{numbers!r})", _BOARD_S)
    except RemoteError as error:
        raise DeployError(
            f"{link.device}: the model arrived damaged ({error.message}); {_STAYS}; check the cable, then try again"
        ) from None


def _accept(link, name, path, confirm, identity):
    """Lets the board test the model and switch to it. Returns the row of its slot."""
    try:
        slot, sequence = link.eval(f"_s.accept({name!r}, {path!r}, {confirm})", _BOARD_S)
    except RemoteError as error:
        if error.kind == "MemoryError":
            raise DoesNotFitError(
                f"{link.device}: the model is too big for the heap: loading it failed ({error.message}); {_STAYS}"
            ) from None
        if error.kind == "OSError":
            raise link.file_error(error, path, _LOG_BYTES) from None
        raise DeployError(f"{link.device}: the board refuses the model: {error.message}; {_STAYS}") from None
    row = read_slots(link, name)[slot]
    if not row["active"] or (row["sequence"], row["id"]) != (sequence, identity):
        raise DeployError(f"{link.device}: slot {slot} does not hold what was sent; check the cable, then try again")
    return row


def rollback(port=None, name=None):
    """Goes back to the model before on one board.

    Args:
        port: see link.open_link.    name: of the slots; None for the only one there.

    Returns:
        dict: port, name, slot, model, version, id of the model that is active now.

    Raises:
        DeployError: if there is none to go back to.    LinkError.
    """
    with open_link(port) as link:
        check_package(link)
        name = name or _only_name(link)
        try:
            link.eval(f"_s.rollback({name!r})", _BOARD_S, SLOTS)
        except RemoteError as error:
            raise DeployError(f"{link.device}: no rollback: {error.message}") from None
        row = next((s for s in read_slots(link, name) if s["active"]), None)
    if row is None:
        raise DeployError(f"{link.device}: no model is active after the rollback; deploy one")
    return {"port": link.device, "name": name, "model": row["name"], **_short(row, "slot", "version", "id")}


def status(port=None, name=None):
    """Returns a dict of one board: port, machine, firmware, backend, slots (list of dict: name and what
    facts.read_slots tells, of each name or of one). Raises DeployError without attn8 there.    LinkError.
    """
    with open_link(port) as link:
        facts, package = read_facts(link), check_package(link)
        names = [name] if name else _names(link)
        slots = [{"slots": n, **row} for n in names for row in read_slots(link, n)]
    head = {"port": link.device, "machine": facts.machine, "firmware": facts.firmware}
    return {**head, "backend": package.backend, "slots": slots}


def _names(link):
    """Returns the slot names on a board."""
    found = [re.fullmatch(r"(.+)\.[01]\.a8", name) for name, is_folder, _ in link.listdir("/") if not is_folder]
    return sorted({match[1] for match in found if match})


def _only_name(link):
    names = _names(link)
    if len(names) != 1:
        raise DeployError(
            f"{link.device}: {len(names)} slot names there ({', '.join(names) or 'deploy a model first'}); give NAME"
        )
    return names[0]


def on_each(named, work):
    """Calls ``work(port)`` for several boards at once.

    Args:
        named: list of ports; empty for the only board.

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
    return (
        f"{found['port']}: '{found['model']}' v{found['version']} {found['id']} in slot {found['slot']} of "
        f"{found['name']}, {found['state']} ({found['bytes']:,} bytes, {found['check']} and golden vectors checked "
        f"on the board; {was})"
    )


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
