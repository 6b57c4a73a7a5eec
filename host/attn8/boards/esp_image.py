"""Firmware files of ESP32 chips: what they are for, where they belong in flash, and whether they are whole.

A file for a whole board, as MicroPython and CircuitPython publish it, is a piece of flash: bootloader, partition table
at 0x8000, application. It begins at the bootloader, 0x1000 on an ESP32, or at 0. The formats are Espressif's: "Firmware
Image Format" in the documentation of esptool, "Partition Tables" in that of ESP-IDF.
"""

import hashlib
import struct
from dataclasses import dataclass

from . import BoardError

TABLE_AT, TABLE_BYTES = 0x8000, 0xC00
_IMAGE, _HEADER_BYTES, _MAX_SEGMENTS = 0xE9, 24, 16
_CHECKSUM_SEED, _SHA_BYTES = 0xEF, 32
_APP_MARK = bytes.fromhex("3254cdab")  # at the beginning of an application's first segment
_ENTRY, _DIGEST, _ENTRY_BYTES = b"\xaa\x50", b"\xeb\xeb", 32
_APP, _DATA, _NVS = 0, 1, 2
_FILESYSTEM_LABELS, _FILESYSTEM_SUBTYPES = ("vfs", "ffat", "user_fs"), (0x81, 0x82, 0x83)  # FAT, SPIFFS, LittleFS
_DOWNLOAD = "download it again"


class FirmwareError(BoardError):
    """A firmware file is damaged, of another kind, or for another chip; the text says what to do."""


@dataclass(frozen=True)
class Chip:
    """A chip: the id in its images, its name, and where in flash its ROM looks for the bootloader."""

    id: int
    name: str
    bootloader_at: int


CHIPS = {
    chip.id: chip
    for chip in (
        *(Chip(0, "ESP32", 0x1000), Chip(2, "ESP32-S2", 0x1000), Chip(5, "ESP32-C3", 0), Chip(9, "ESP32-S3", 0)),
        *(Chip(12, "ESP32-C2", 0), Chip(13, "ESP32-C6", 0), Chip(16, "ESP32-H2", 0), Chip(18, "ESP32-P4", 0x2000)),
        *(Chip(20, "ESP32-C61", 0), Chip(23, "ESP32-C5", 0x2000)),
    )
}


@dataclass(frozen=True)
class Partition:
    """A row of a partition table: type, subtype, offset in flash and size in bytes, label."""

    type: int
    subtype: int
    start: int
    n_bytes: int
    label: str

    @property
    def end(self):
        """The address behind it."""
        return self.start + self.n_bytes


@dataclass(frozen=True)
class EspFirmware:
    """A checked firmware file.

    Attributes:
        chip: Chip.    start: address of its first byte.    data: its bytes.    partitions: tuple of Partition.
        flash_bytes: size of flash it was built for.    hashed: whether all of its images carry a SHA-256.
    """

    chip: Chip
    start: int
    data: bytes
    partitions: tuple
    flash_bytes: int
    hashed: bool

    @property
    def end(self):
        """The address behind its last byte."""
        return self.start + len(self.data)

    def pieces(self):
        """Returns [(address, bytes)] to write: all but the partitions of settings (NVS), which the file only blanks."""
        at, found = self.start, []
        for part in sorted((p for p in self.partitions if (p.type, p.subtype) == (_DATA, _NVS)), key=lambda p: p.start):
            blank = self._slice(part.start, part.end)
            if at <= part.start < part.end <= self.end and not blank.strip(b"\xff"):
                found.append((at, self._slice(at, part.start)))
                at = part.end
        return [(start, data) for start, data in (*found, (at, self._slice(at, self.end))) if data]

    def _slice(self, start, end):
        return self.data[max(0, start - self.start) : max(0, end - self.start)]


def is_firmware(data):
    """Says whether bytes begin like an image, or like one behind the gap in front of a bootloader."""
    return data[:1] == bytes((_IMAGE,)) or (_gap(data) is not None)


def _gap(data):
    """Returns the offset of the bootloader in a file that begins at 0 with nothing, None if it is no such file."""
    for offset in sorted({chip.bootloader_at for chip in CHIPS.values()} - {0}):
        if data[offset : offset + 1] == bytes((_IMAGE,)) and not data[:offset].strip(b"\xff"):
            return offset
    return None


def parse(data):
    """Returns the EspFirmware of a file.

    Args:
        data: bytes.

    Raises:
        FirmwareError: if it is no firmware for a whole board, is cut short, or a checksum or SHA-256 in it is wrong.
    """
    offset = 0 if data[:1] == bytes((_IMAGE,)) else _gap(data)
    if offset is None:
        raise FirmwareError("no ESP32 image: it does not begin with 0xE9; take the .bin file for your board")
    chip, size, n, hashed = _image(data, offset, "bootloader")
    start = 0 if offset else chip.bootloader_at
    if start + offset != chip.bootloader_at:
        raise FirmwareError(
            f"a bootloader at {start + offset:#x}, expected {chip.bootloader_at:#x} for an {chip.name}; {_DOWNLOAD}"
        )
    if start + offset + n > TABLE_AT or data[offset + _HEADER_BYTES + 8 :].startswith(_APP_MARK):
        raise FirmwareError(
            "an application alone, as for updates over the air, without bootloader and partition table; "
            "take the .bin file for the whole board"
        )
    partitions = read_table(data[TABLE_AT - start : TABLE_AT - start + TABLE_BYTES])
    if partitions is None:
        raise FirmwareError(f"no whole partition table at {TABLE_AT:#x}: cut short or damaged; {_DOWNLOAD}")
    app = next((p for p in partitions if p.type == _APP), None)
    if app is None or app.start < TABLE_AT + TABLE_BYTES or app.start - start >= len(data):
        raise FirmwareError(f"no application where the partition table has one: cut short or damaged; {_DOWNLOAD}")
    app_chip, _, n, app_hashed = _image(data, app.start - start, "application")
    if app_chip != chip:
        raise FirmwareError(f"a bootloader for {chip.name} with an application for {app_chip.name}; {_DOWNLOAD}")
    if n > app.n_bytes:
        raise FirmwareError(f"an application of {n:,} bytes in a partition of {app.n_bytes:,}; {_DOWNLOAD}")
    return EspFirmware(chip, start, data, partitions, size, hashed and app_hashed)


def _image(data, offset, what):
    """Returns (Chip, bytes of flash it was built for, its own bytes, whether it has a SHA-256) of a checked image."""
    header = data[offset : offset + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[0] != _IMAGE or not 0 < header[1] <= _MAX_SEGMENTS:
        raise FirmwareError(f"its {what} is damaged: no image at byte {offset:,}; {_DOWNLOAD}")
    chip_id = struct.unpack_from("<H", header, 12)[0]
    if chip_id not in CHIPS:
        names = ", ".join(chip.name for chip in CHIPS.values())
        raise FirmwareError(f"its {what} is for an unknown chip, number {chip_id}; expected one of: {names}")
    at, checksum = offset + _HEADER_BYTES, _CHECKSUM_SEED
    for _ in range(header[1]):
        n = struct.unpack_from("<I", data, at + 4)[0] if at + 8 <= len(data) else len(data)
        if at + 8 + n > len(data):
            raise FirmwareError(f"its {what} is cut short: the file ends at byte {len(data):,}; {_DOWNLOAD}")
        checksum ^= _xor(data[at + 8 : at + 8 + n])
        at += 8 + n
    at = offset + (at - offset + 16) // 16 * 16
    if data[at - 1 : at] != bytes((checksum,)):
        raise FirmwareError(f"its {what} is damaged: the checksum differs; {_DOWNLOAD}")
    hashed = header[23] == 1
    if hashed:
        if hashlib.sha256(data[offset:at]).digest() != data[at : at + _SHA_BYTES]:
            raise FirmwareError(f"its {what} is damaged: the SHA-256 in it differs; {_DOWNLOAD}")
        at += _SHA_BYTES
    return CHIPS[chip_id], 1 << (20 + (header[3] >> 4)), at - offset, hashed


def _xor(data):
    import numpy as np

    return int(np.bitwise_xor.reduce(np.frombuffer(data, np.uint8))) if data else 0


def read_table(data):
    """Returns a tuple of Partitions, None if these bytes are no partition table whose hash, where it has one, is right.

    Args:
        data: bytes from TABLE_AT on.
    """
    found = []
    for at in range(0, min(len(data), TABLE_BYTES), _ENTRY_BYTES):
        entry = data[at : at + _ENTRY_BYTES]
        if entry[:2] == _DIGEST:
            return tuple(found) if found and hashlib.md5(data[:at]).digest() == entry[16:] else None
        if len(entry) < _ENTRY_BYTES or entry[:2] != _ENTRY:
            return tuple(found) if found and not entry.strip(b"\xff") and len(entry) == _ENTRY_BYTES else None
        kind, subtype, start, n, label = struct.unpack_from("<BBII16s", entry, 2)
        found.append(Partition(kind, subtype, start, n, label.split(b"\0")[0].decode("ascii", "replace")))
    return None


def filesystem(partitions, flash_bytes):
    """Returns (start, end) of where the files lie, None if there is no room for any.

    MicroPython takes the flash behind the last partition where the table names none for them.

    Args:
        partitions: tuple of Partition.    flash_bytes: of the board, a size in bytes.
    """
    data = [p for p in partitions if p.type == _DATA]
    named = [p for p in data if p.label in _FILESYSTEM_LABELS] or [p for p in data if p.subtype in _FILESYSTEM_SUBTYPES]
    if named:
        return named[0].start, named[0].end
    end = max((p.end for p in partitions), default=flash_bytes)
    return (end, flash_bytes) if end < flash_bytes else None
