"""A model in ROMFS, where a board has a partition for it: it runs in place and takes no heap. Not safe against a cut.

The other files of the partition stay. Its image is read, made anew with the model in it, and written as a whole, since
the length in front covers all of it.
"""

import zlib
from base64 import b64encode

from . import BoardError, DoesNotFitError
from .board_code import board_code
from .deploy import DeployError, making_sense, no_package, quiet_s, read_sent
from .facts import read_facts, read_package
from .link import CABLE, LinkError, RemoteError, open_link
from .shape import COUNT, SHORT, WHOLE, Either

_MAGIC = b"\xd2\xcd\x31"
_DATA, _POINTER, _DIRECTORY, _FILE = 2, 3, 4, 5  # kinds of records
_MAX_DEPTH = 8
_CHUNK_BYTES = 1024
_MAX_ROM_BYTES = 1 << 24
_ERASE_S, _LOAD_S = 60, 60
_MAY_BE_LOST = "what was in ROMFS may be lost: deploy again"


class RomError(BoardError):
    """A board has no ROMFS, or what is in it cannot be kept."""


def deploy(file, port=None, name=None, progress=None):
    """Writes a model into the ROMFS of a board as /rom/<name>.a8, beside the other files there.

    Args:
        file: path of a .a8 file.    port: see link.open_link.    name: by default that of the file.
        progress: called with (file, bytes done, bytes in all).

    Returns:
        dict: what deploy.deploy returns, slot and sequence None, state "rom"; path; kept (list of the other files).

    Raises:
        attn8.ModelError, DataError: if the file is no valid model.    DoesNotFitError: if the partition is too small.
        RomError: if there is none.    DeployError: if the board refuses the model.    LinkError.
    """
    sent = read_sent(file, name)
    file = f"{sent.slots}.a8"
    with open_link(port) as link, making_sense(link.device):
        facts = read_facts(link)
        package = read_package(link)
        if package is None:
            raise no_package(link)
        size, block, n_image = _partition(link, facts)
        old = _read(link, n_image)
        there = files(old, link.device)
        new = image(old, file, sent.data)
        if len(new) > size:
            raise DoesNotFitError(
                f"{link.device}: ROMFS is too small: with the model it takes {len(new):,} bytes, its partition has "
                f"{size:,}; take a smaller model, or another partition table"
            )
        before = _loaded(link, f"/rom/{file}") if file in there else None
        try:
            with making_sense(link.device):
                _write(link, new, size, block, lambda *step: progress and progress(file, *step))
                _test(link, f"/rom/{file}", sent.model.id, quiet_s(facts, package, sent))
        except BoardError as error:
            raise type(error)(f"{error}; {_MAY_BE_LOST}") from None
    return {
        **{"port": link.device, "machine": facts.machine, "name": sent.slots, "slot": None, "sequence": None},
        **{"state": "rom", "check": "crc32", **sent.told(), "before": before, "path": f"/rom/{file}"},
        "kept": [name for name in there if name != file],
    }


def _partition(link, facts):
    """Returns bytes of the first ROMFS partition, of its blocks, of the image in it (0: none). Raises RomError."""
    found = link.eval("_partition()", setup=board_code("romfs"), shape=Either(None, (WHOLE, WHOLE, bytes)))
    if found is None:
        raise RomError(
            f"{link.device}: {facts.firmware} on {facts.machine} has no ROMFS partition; deploy without --to rom, or "
            "flash a firmware with one"
        )
    size, block, head = found
    try:
        n_image = sum(_number(head, len(_MAGIC))) if head[: len(_MAGIC)] == _MAGIC else 0
    except ValueError:
        n_image = size + 1
    if not (0 < block <= size <= _MAX_ROM_BYTES and n_image <= size):
        raise RomError(
            f"{link.device}: ROMFS has {size} bytes, its image does not fit there; make it anew: mpremote romfs"
        )
    return size, block, n_image


def _read(link, n_bytes):
    """Returns the image in the partition. Raises LinkError if it arrives damaged."""
    data = b"".join(
        link.eval(f"_rom({at}, {min(_CHUNK_BYTES, n_bytes - at)})", shape=bytes)
        for at in range(0, n_bytes, _CHUNK_BYTES)
    )
    _compare(link, data)
    return data


def _compare(link, data):
    """Raises LinkError if the partition does not begin with these bytes, by a CRC-32 of the board."""
    crc = zlib.crc32(data)
    if link.eval(f"_crc_of({len(data)})", _ERASE_S, shape=(SHORT, SHORT)) != (crc >> 16, crc & 65535):
        raise LinkError(f"{link.device}: ROMFS is not what was sent or read; {CABLE}")


def _write(link, new, size, block, progress):
    """Erases as much of the partition as the image needs, and writes it."""
    try:
        chunk_bytes = max(_CHUNK_BYTES, link.eval(f"_erase({len(new)}, {block})", _ERASE_S, shape=COUNT))
    except RemoteError as error:
        if error.kind != "OSError":
            raise
        raise RomError(
            f"{link.device}: its ROMFS cannot be erased ({error.message}); deploy without --to rom, or put the model "
            "into the firmware's own image (mpremote romfs)"
        ) from None
    for at in range(0, len(new), chunk_bytes):
        chunk = new[at : at + chunk_bytes].ljust(min(chunk_bytes, size - at), b"\0")
        link.exec(f"_put({at}, {b64encode(chunk)!r}, {block})")
        progress(min(at + chunk_bytes, len(new)), len(new))
    link.exec("_end()")
    _compare(link, new)


def _loaded(link, path):
    """Returns model, version and id of a file, None if it is no model."""
    try:
        name, version, model = link.eval(f"_name(__import__('attn8').load({path!r}))", _LOAD_S, shape=(str, str, str))
    except RemoteError:
        return None
    return {"model": name, "version": version, "id": model}


def _test(link, path, identity, timeout):
    """Has the board load the model from there and run its golden vectors."""
    try:
        found = link.eval(f"_test({path!r})", timeout, shape=str)
    except RemoteError as error:
        if error.kind != "ModelError":
            raise
        raise DeployError(f"{link.device}: the board refuses the model: {error.message}") from None
    if found != identity:
        raise DeployError(f"{link.device}: {path} is model {found}, expected {identity}; {CABLE}")


def _number(data, at):
    """Returns (value, position behind it) of a number in 7-bit pieces, the highest in front."""
    value = 0
    for i in range(at, min(at + 5, len(data))):
        value = value << 7 | data[i] & 127
        if data[i] < 128:
            return value, i + 1
    raise ValueError("a number without end")


def _records(data, start, end):
    """Yields (kind, start, start of the payload, end) of the records between two positions. Raises ValueError."""
    while start < end:
        kind, at = _number(data, start)
        n, at = _number(data, at)
        if at + n > end:
            raise ValueError("a record behind the end")
        yield kind, start, at, at + n
        start = at + n


def files(image, device):
    """Returns {path: (start, end)} of the records of the files in an image, of folders with their own.

    Raises:
        RomError: if it is damaged, or has files that lie elsewhere in it, which another image would move.
    """
    try:
        found = {}
        if image:
            _, at = _number(image, len(_MAGIC))
            _walk(image, at, len(image), "", found, 0)
        return found
    except (ValueError, IndexError) as error:
        raise RomError(f"{device}: what is in ROMFS cannot be kept ({error}); make it anew: mpremote romfs") from None


def _walk(image, start, end, folder, found, depth):
    if depth > _MAX_DEPTH:
        raise ValueError("too many folders in folders")
    for kind, first, at, last in _records(image, start, end):
        if kind not in (_DIRECTORY, _FILE):
            continue
        n, at = _number(image, at)
        name, at = image[at : at + n].decode(), at + n
        if kind == _DIRECTORY:
            _walk(image, at, last, f"{folder}{name}/", found, depth + 1)
        elif any(inner == _POINTER for inner, *_ in _records(image, at, last)):
            raise ValueError(f"{folder}{name} is stored by its place")
        else:
            found[folder + name] = first, last


def image(old, name, data):
    """Returns a ROMFS image with the records of an old one, or of none, and a file in place of one of that name."""
    kept = b""
    if old:
        _, start = _number(old, len(_MAGIC))
        mine = files(old, "").get(name)
        for kind, first, _, last in _records(old, start, len(old)):
            if kind in (_DIRECTORY, _FILE, _DATA) and (first, last) != mine:
                kept += old[first:last]
    text = name.encode("ascii")
    kept += _record(_FILE, _encoded(len(text)) + text + _record(_DATA, data))
    length = _encoded(len(kept))
    if (len(_MAGIC) + len(length) + len(kept)) % 2:
        length = b"\x80" + length
    return _MAGIC + length + kept


def _record(kind, payload):
    return _encoded(kind) + _encoded(len(payload)) + payload


def _encoded(value):
    """Returns a number in 7-bit pieces, the highest in front, all but the last with their high bit set."""
    pieces = bytes([value & 127])
    while value := value >> 7:
        pieces = bytes([128 | value & 127]) + pieces
    return pieces
