"""Puts a firmware file on a board: everything is checked before anything is written, and the files there stay."""

import contextlib
import hashlib
import tempfile

from . import DoesNotFitError, board, esp_image, esp_program, uf2, uf2_drive
from .esp_image import FirmwareError
from .facts import NAMES
from .link import LinkError, find_device, open_link
from .shape import COUNT, Either

BAUD = 460_800
_MAX_BYTES = 64 << 20
_OTHER_FILES = (
    (b"\x7fELF", "an ELF file of a linker; take the .bin or .uf2 beside it"),
    (b"PK\x03\x04", "a ZIP archive; unpack it and take the .bin or .uf2 in it"),
    (b":", "a HEX file; take the .bin or .uf2"),
    (b"<", "a web page, not what it links to; download the file itself"),
)
_BOOTLOADER_S = 3
_ERASE = "save your files (mpremote cp -r : DIR) and give --erase"


def read_firmware(path, sha256=None):
    """Returns the esp_image.EspFirmware or uf2.Uf2 of a file.

    Args:
        path: of the file.    sha256: hexadecimal SHA-256 that its download page names, or None.

    Raises:
        FirmwareError: if it cannot be read, is no firmware, is damaged, or has another SHA-256.
    """
    data = _read(path)
    _check_sha256(path, data, sha256)
    try:
        if data.startswith(uf2.MAGIC):
            return uf2.parse(data)
        if esp_image.is_firmware(data):
            return esp_image.parse(data)
    except FirmwareError as error:
        raise FirmwareError(f"{path}: {error}") from None
    what = next((text for start, text in _OTHER_FILES if data.startswith(start)), "neither; take that of your board")
    raise FirmwareError(f"{path}: expected a .bin file of an ESP32 or a .uf2 file, got {what}")


def _read(path):
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise FirmwareError(f"{path}: {error.strerror or error}; give the firmware file that you downloaded") from None
    if len(data) > _MAX_BYTES:
        raise FirmwareError(
            f"{path}: larger than {_MAX_BYTES:,} bytes, no firmware of a board; take the file for your board"
        )
    return data


def _check_sha256(path, data, expected):
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and found != expected.strip().lower():
        raise FirmwareError(f"{path}: its SHA-256 is {found}, expected {expected}; download it again")


def flash(
    path,
    port=None,
    drive=None,
    board_name=None,
    sha256=None,
    erase=False,
    dry_run=False,
    baud=BAUD,
    say=None,
    progress=None,
):
    """Writes a firmware file to a board and lets it be compared there.

    Args:
        path: a .bin file for a whole ESP32 board, or a .uf2 file.    port: see link.find_device.
        drive: folder of a board in its UF2 bootloader.    board_name: a name of the board table that the file must fit.
        sha256: see read_firmware.    erase: the files on the board too.    dry_run: write nothing.
        baud: bits per second to an ESP32.    say: called with a sentence.
        progress: called with (what, bytes done, bytes in all).

    Returns:
        dict: file, chip, port (or the folder of the drive; None where none was looked at), bytes, from, to (addresses),
        files (dict of from, to and kept; None where the firmware does not tell), written, verified (text, or None),
        next (text).

    Raises:
        FirmwareError: if the file is damaged, or for another chip than the board or --board.
        DoesNotFitError: if the flash is too small.    LinkError: if there is no board, or it stops answering.
        ToolMissingError: without esptool.
    """
    firmware, say = read_firmware(path, sha256), say or (lambda text: None)
    is_uf2 = isinstance(firmware, uf2.Uf2)
    chip = str(firmware.family) if is_uf2 else firmware.chip.name
    _check_board(path, firmware, chip, board_name)
    say(f"{path}: firmware for {chip}, whole")
    if is_uf2:
        found = _flash_uf2(path, firmware, port, drive, erase, dry_run, say, progress)
    else:
        if drive:
            raise FirmwareError(f"{path}: a .bin file goes through a serial port; give --port, or take the .uf2 file")
        found = _flash_esp(path, firmware, port, erase, dry_run, baud, say, progress)
    where = f" --port {port}" if port else ""
    return {
        **{"file": str(path), "chip": chip, "written": not dry_run, **found},
        "next": None if dry_run else f"attn8 install{where}",
    }


def _check_board(path, firmware, chip, name):
    if name is None:
        return
    processor, _, core = board(name).processor.partition(", ")
    riscv = isinstance(firmware, uf2.Uf2) and firmware.family.core == "riscv"
    if chip.partition(" ")[0] != processor or core.startswith("Hazard") != riscv:
        raise FirmwareError(
            f"{path}: for {chip}, expected {board(name).processor} for {name}; take the file for {name}"
        )


def _area(area, erase):
    """Returns dict of the files on a board, for JSON."""
    return area and {"from": area[0], "to": area[1], "kept": not erase}


@contextlib.contextmanager
def _told_when_stopped(where, say):
    """Says what Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"{where}: stopped while writing: the board has no whole firmware now; give the same command again")
        raise


# ESP32: esptool as a program


def _flash_esp(path, firmware, port, erase, dry_run, baud, say, progress):
    pieces = [(firmware.start, firmware.data)] if erase else firmware.pieces()
    found = {"bytes": sum(len(data) for _, data in pieces), "from": firmware.start, "to": firmware.end}
    if not firmware.hashed:
        say(f"{path}: a part of it carries no SHA-256, only a checksum; --sha256 compares the whole file")
    if dry_run and not port:
        return {**found, "port": None, "files": None, "verified": None}
    device = find_device(port)
    with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        there = esp_program.read_board(device)
        try:
            _check_chip(path, firmware, there)
            area = _kept_area(path, firmware, pieces, there, folder, erase)
        except (FirmwareError, DoesNotFitError):
            with contextlib.suppress(LinkError):  # what ran on the board runs again
                esp_program.reset(device)
            raise
        say(f"{device}: {there.chip}, {_size(there.flash_bytes)} of flash, {_files_text(area, erase)}")
        if dry_run:
            esp_program.reset(device)
        else:
            with _told_when_stopped(device, say):
                esp_program.write_flash(device, firmware.chip.name, pieces, folder, baud, erase, progress)
    verified = None if dry_run else "the chip computed the same MD5 over its flash"
    return {**found, "port": device, "files": _area(area, erase), "verified": verified}


def _check_chip(path, firmware, there):
    chip = firmware.chip.name
    if there.chip != chip:
        raise FirmwareError(
            f"{there.port}: wrong chip: this is an {there.chip}, {path} is for an {chip}; take its own file"
        )
    needed = max(firmware.end, *(p.end for p in firmware.partitions))
    if there.flash_bytes is not None and there.flash_bytes < max(needed, firmware.flash_bytes):
        raise DoesNotFitError(
            f"{there.port}: {path} needs {_size(max(needed, firmware.flash_bytes))} of flash, the board has "
            f"{_size(there.flash_bytes)}; take the file for this flash size"
        )


def _kept_area(path, firmware, pieces, there, folder, erase):
    """Returns (start, end) of the files on the board, None where it has none.

    Raises FirmwareError if they would be overwritten, or not be found afterwards."""
    data = esp_program.read_flash(there.port, esp_image.TABLE_AT, esp_image.TABLE_BYTES, folder)
    flash_bytes = there.flash_bytes or firmware.flash_bytes
    table, future = esp_image.read_table(data), esp_image.filesystem(firmware.partitions, flash_bytes)
    area = esp_image.filesystem(table, flash_bytes) if table else None
    if area is None or erase:
        return area
    if any(start < area[1] and area[0] < start + len(piece) for start, piece in pieces):
        raise FirmwareError(f"{path}: it would overwrite the files on the board, which begin at {area[0]:#x}; {_ERASE}")
    if future is None or future[0] != area[0]:
        looks = f"looks for them at {future[0]:#x}" if future else "has no place for them"
        raise FirmwareError(f"{path}: it {looks}, the files on the board begin at {area[0]:#x}; {_ERASE}")
    return area


def _size(n_bytes):
    return "an unknown size" if n_bytes is None else f"{n_bytes / (1 << 20):g} MB"


def _files_text(area, erase):
    if erase:
        return "all of it will be erased"
    return f"files at {area[0]:#x} stay" if area else "no files of an earlier firmware"


# RP2 and others with a UF2 bootloader: a drive


def _flash_uf2(path, firmware, port, drive, erase, dry_run, say, progress):
    _check_files(path, firmware, erase)
    found = {"bytes": uf2.PAYLOAD_BYTES * len(firmware.blocks), "from": firmware.start, "to": firmware.end}
    found["files"] = _area(firmware.filesystem, erase)
    if firmware.filesystem is None:
        say(f"{path}: it does not say where its files lie; only {firmware.start:#x} to {firmware.end:#x} is written")
    if dry_run:
        target = _dry_target(path, firmware, port, drive, erase)
        return {**found, "port": target, "verified": None}
    boot = _boot_drive(path, firmware, port, drive, erase, say)
    say(f"{boot.path}: {boot.model}, {boot.board_id}")
    with _told_when_stopped(boot.path, say):
        uf2_drive.write(boot, firmware.encode(erase), progress)
    return {**found, "port": str(boot.path), "verified": "the board took every block and restarted"}


def _check_files(path, firmware, erase):
    if erase and not firmware.filesystem:
        raise FirmwareError(f"{path}: it does not say where its files lie, so --erase cannot blank them; leave it out")
    n = firmware.in_filesystem()
    if n and not erase:
        raise FirmwareError(
            f"{path}: {n:,} bytes of it lie where files do, from {firmware.filesystem[0]:#x}, and would overwrite "
            f"those on the board; {_ERASE}"
        )


def _dry_target(path, firmware, port, drive, erase):
    if port:
        with open_link(port, restart=False) as link:
            _check_running(path, firmware, link, erase)
            return link.device
    found = uf2_drive.find_drive(firmware.family, drive) if drive else None
    return found and str(found.path)


def _boot_drive(path, firmware, port, named, erase, say):
    """Returns the Drive of the board, which is brought into its bootloader where it runs a program."""
    found = None if port else uf2_drive.find_drive(firmware.family, named)
    if found:
        if firmware.filesystem and not erase:
            area = f"{firmware.filesystem[0]:#x} to {firmware.filesystem[1]:#x}"
            say(f"{found.path}: in its bootloader a board does not say where its files lie; {area} stays")
        return found
    if named and not port:
        raise LinkError(f"{named}: no {uf2_drive.INFO} there, so no boot drive; {uf2_drive.BUTTON}")
    try:
        device = find_device(port)
    except LinkError as error:
        raise LinkError(f"no boot drive of an {firmware.family.chip}, and {error}; or {uf2_drive.BUTTON}") from None
    ignored = () if named else {there.path for there in uf2_drive.drives()}
    with open_link(device, restart=False) as link:
        _check_running(path, firmware, link, erase)
        say(f"{device}: restarting into its bootloader")
        with contextlib.suppress(LinkError):  # the port goes away
            link.exec(_BOOTLOADER, _BOOTLOADER_S)
    found = uf2_drive.find_drive(firmware.family, named, uf2_drive.DRIVE_S, ignored)
    if not found:
        raise LinkError(
            f"{device}: no boot drive appeared within {uf2_drive.DRIVE_S} s; where nothing mounts drives by itself, "
            f"mount it and give --drive DIR; else {uf2_drive.BUTTON}"
        )
    return found


_BOOTLOADER = """
try:
 import machine
 machine.bootloader()
except ImportError:
 import microcontroller
 microcontroller.on_next_reset(microcontroller.RunMode.UF2)
 microcontroller.reset()
"""
_RUNNING = """
def _running():
 import sys
 n = None
 try:
  import rp2
  f = rp2.Flash()
  n = f.ioctl(4, 0) * f.ioctl(5, 0)
 except (ImportError, AttributeError):
  pass
 i = sys.implementation
 return i.name, getattr(i, "_machine", ""), n
"""


def _check_running(path, firmware, link, erase):
    """Raises FirmwareError if the board is another chip's, or its files would not be found afterwards."""
    name, machine, n_bytes = link.eval("_running()", setup=_RUNNING, shape=(str, str, Either(None, COUNT)))
    chip, shown = firmware.family.chip, machine.upper().replace("-", "")
    if chip.replace("-", "") not in shown:
        raise FirmwareError(
            f"{link.device}: wrong chip: this is a {machine}, {path} is for {firmware.family}; take its own file"
        )
    if erase:
        return
    if firmware.program in NAMES.values() and firmware.program != NAMES.get(name):
        raise FirmwareError(f"{path}: {firmware.program} cannot read the files that {name} has on the board; {_ERASE}")
    area = firmware.filesystem
    if n_bytes and area and n_bytes != area[1] - area[0]:
        raise FirmwareError(
            f"{path}: it keeps {area[1] - area[0]:,} bytes for files, the board has them in {n_bytes:,}, so they would "
            f"not be found; take the file for this very board, or {_ERASE}"
        )


def render(found):
    """Returns the lines that ``attn8 flash`` prints."""
    where = f"{found['from']:#x} to {found['to']:#x}"
    lines = [
        f"file      {found['file']}: {found['chip']}, {found['bytes']:,} bytes for {where}",
        f"board     {found['port'] or 'not looked at'}",
    ]
    files = found["files"]
    if files:
        words = ("erased", "kept") if found["written"] else ("would be erased", "would stay")
        lines.append(f"files     {words[files['kept']]}, {files['from']:#x} to {files['to']:#x}")
    if not found["written"]:
        return "\n".join([*lines, "written   nothing: a dry run"])
    return "\n".join([*lines, f"verified  {found['verified']}", f"next      {found['next']}"])
