"""UF2 files, read whole: what chip they are for, which addresses they fill, where their firmware keeps its files.

The format is Microsoft's (github.com/microsoft/uf2); families and the block of RP2350-E10 are Raspberry Pi's
(boot/uf2.h of pico-sdk, RP2350 datasheet, appendix E), and so is the "binary info" that says where files lie.
"""

import struct
from dataclasses import dataclass

from .esp_image import FirmwareError

BLOCK_BYTES, PAYLOAD_BYTES, SECTOR_BYTES = 512, 256, 4096
MAGIC = b"UF2\n"
_MAGIC_1, _MAGIC_2, _HAS_FAMILY, _NOT_FLASH = 0x9E5D5157, 0x0AB16F30, 0x2000, 0x1
_ABSOLUTE = 0xE48BFF57
_FLASH, _FLASH_END = 0x10000000, 0x11000000
_A_SECTOR = SECTOR_BYTES // PAYLOAD_BYTES
_DOWNLOAD = "download it again"
# The first bytes of flash: a loader of 256 bytes with a CRC on an RP2040, a block between markers on an RP2350.
_BOOT2_BYTES, _BOOT_BLOCK, _BOOT_BLOCK_END, _IMAGE_TYPE = 256, 0xFFFFDED3, 0xAB123579, 0x42
_SEARCHED_BYTES = 4096
_INFO, _INFO_END, _INFO_MAX = 0x7188EBF2, 0xE71AA390, 4096
_INFO_STRING, _INFO_DISK, _WRITABLE = 6, 7, 2
_PROGRAM, _VERSION, _BOARD = 0x02031C86, 0x11A9BC3A, 0xB63CFFBB


@dataclass(frozen=True)
class Family:
    """What a UF2 file is for: chip, "arm" or "riscv" where the chip has both, and what its boot drive calls itself."""

    chip: str
    core: str
    drive: tuple
    addresses: tuple

    def __str__(self):
        return f"{self.chip} ({'RISC-V' if self.core == 'riscv' else 'Arm'})" if self.core else self.chip


_RP2, _PARTITION = (_FLASH, _FLASH_END), (0, 1 << 24)
FAMILIES = {
    0xE48BFF56: Family("RP2040", "", ("RPI-RP2", "RP2040"), _RP2),
    0xE48BFF59: Family("RP2350", "arm", ("RP2350",), _RP2),
    0xE48BFF5A: Family("RP2350", "riscv", ("RP2350",), _RP2),
    0xBFDD4EEE: Family("ESP32-S2", "", ("ESP32S2",), _PARTITION),
    0xC47E5767: Family("ESP32-S3", "", ("ESP32S3",), _PARTITION),
}


@dataclass(frozen=True)
class Uf2:
    """A checked UF2 file.

    Attributes:
        family: Family.    blocks: {address: 256 bytes} in the order of the file.    family_id: number of the family.
        filesystem: (start, end) of where the firmware keeps its files, None where it does not say.
        program, version, board: what it says of itself, "" for nothing.    has_e10: whether the block that works
        around RP2350-E10 was in front.
    """

    family: Family
    family_id: int
    blocks: dict
    filesystem: tuple | None
    program: str
    version: str
    board: str
    has_e10: bool

    @property
    def start(self):
        """Its lowest address."""
        return min(self.blocks)

    @property
    def end(self):
        """The address behind its highest block."""
        return max(self.blocks) + PAYLOAD_BYTES

    def in_filesystem(self):
        """Returns how many of its bytes lie where its firmware keeps files."""
        if not self.filesystem:
            return 0
        start, end = self.filesystem
        return PAYLOAD_BYTES * sum(start < address + PAYLOAD_BYTES and address < end for address in self.blocks)

    def encode(self, erase=False):
        """Returns the bytes to copy onto a boot drive.

        The block of RP2350-E10 is left out: revision A2 of the chip erases the last sector of the flash for it, where
        files lie (RP2350 datasheet, appendix E).

        Args:
            erase: add blocks that leave the filesystem blank; the firmware makes a new one.
        """
        blocks = dict(self.blocks)
        if erase:
            # Whole sectors: an RP2040 erases one for each 16 blocks by number, not by address (RP2040-E14).
            blank = b"\xff" * PAYLOAD_BYTES
            for address in range(self.end, -(-self.end // SECTOR_BYTES) * SECTOR_BYTES, PAYLOAD_BYTES):
                blocks[address] = blank
            for address in range(*self.filesystem, PAYLOAD_BYTES):
                blocks.setdefault(address, blank)
            if self.family.chip == "RP2040":
                _check_sectors(list(blocks))
        return b"".join(
            _block(address, data, i, len(blocks), self.family_id) for i, (address, data) in enumerate(blocks.items())
        )


def _block(address, data, number, n_blocks, family):
    head = struct.pack("<8I", 0x0A324655, _MAGIC_1, _HAS_FAMILY, address, len(data), number, n_blocks, family)
    return head + data.ljust(BLOCK_BYTES - 36, b"\0") + struct.pack("<I", _MAGIC_2)


def parse(data):
    """Returns the Uf2 of a file.

    Args:
        data: bytes.

    Raises:
        FirmwareError: if it is damaged, not complete, for an unknown chip, or reaches outside the flash.
    """
    if not data or len(data) % BLOCK_BYTES:
        raise FirmwareError(f"{len(data):,} bytes, expected a multiple of {BLOCK_BYTES}: cut short; {_DOWNLOAD}")
    rows = [_read_block(data[at : at + BLOCK_BYTES], at) for at in range(0, len(data), BLOCK_BYTES)]
    has_e10 = len(rows) > 1 and _is_e10(rows[0])
    rows = rows[1:] if has_e10 else rows
    family_id = rows[0].family
    if {row.family for row in rows} != {family_id}:
        raise FirmwareError("it holds firmware for several chips; take the file for your board alone")
    if family_id not in FAMILIES:
        names = ", ".join(map(str, FAMILIES.values()))
        raise FirmwareError(f"it is for an unknown chip, family {family_id:#010x}; expected one of: {names}")
    family = FAMILIES[family_id]
    blocks = _blocks(rows, family)
    found = {"filesystem": None, "program": "", "version": "", "board": ""}
    if family.addresses == _RP2:
        image = _flash(blocks)
        _check_boot(image, family)
        found.update(_binary_info(image))
    return Uf2(family=family, family_id=family_id, blocks=blocks, has_e10=has_e10, **found)


@dataclass(frozen=True)
class _Row:
    flags: int
    address: int
    n_bytes: int
    number: int
    n_blocks: int
    family: int
    data: bytes


def _read_block(data, at):
    second, *fields = struct.unpack_from("<7I", data, 4)
    if (data[:4], second, data[-4:]) != (MAGIC, _MAGIC_1, struct.pack("<I", _MAGIC_2)):
        raise FirmwareError(f"its block at byte {at:,} is damaged: no UF2 marks; {_DOWNLOAD}")
    row = _Row(*fields, data[32 : 32 + PAYLOAD_BYTES])
    if not row.flags & _HAS_FAMILY or row.flags & _NOT_FLASH or row.n_bytes != PAYLOAD_BYTES:
        raise FirmwareError(
            f"its block at byte {at:,} has flags {row.flags:#x} and {row.n_bytes:,} bytes, expected a family and "
            f"{PAYLOAD_BYTES}; {_DOWNLOAD}"
        )
    return row


def _is_e10(row):
    return (row.family, row.number, row.n_blocks) == (_ABSOLUTE, 0, 2) and row.data == b"\xef" * PAYLOAD_BYTES


def _blocks(rows, family):
    """Returns {address: data}, with numbers, addresses and sectors checked."""
    n = len(rows)
    if {row.n_blocks for row in rows} != {n} or sorted(row.number for row in rows) != list(range(n)):
        raise FirmwareError(f"it has {n:,} blocks, expected {rows[0].n_blocks:,}, each once: not whole; {_DOWNLOAD}")
    first, end = family.addresses
    for row in rows:
        if not first <= row.address <= end - PAYLOAD_BYTES or row.address % PAYLOAD_BYTES:
            raise FirmwareError(
                f"it has a block for address {row.address:#010x}, expected flash, {first:#010x} to {end:#010x}; "
                "take the firmware that goes into flash"
            )
    blocks = {row.address: row.data for row in sorted(rows, key=lambda row: row.number)}
    if len(blocks) != n:
        raise FirmwareError(f"it has two blocks for one address; {_DOWNLOAD}")
    if family.chip == "RP2040":
        _check_sectors(list(blocks))
    return blocks


def _check_sectors(addresses):
    """An RP2040 erases one sector for each 16 blocks by number: two sectors in one of these would be written wrong."""
    for i in range(0, len(addresses), _A_SECTOR):
        if len({address // SECTOR_BYTES for address in addresses[i : i + _A_SECTOR]}) > 1:
            raise FirmwareError(
                f"its blocks from number {i:,} on lie in two sectors, which an RP2040 would write wrong (RP2040-E14); "
                "build it again with a picotool that fills whole sectors"
            )


def _flash(blocks):
    """Returns the bytes of flash from its beginning to the last block, 0xFF where nothing is written."""
    image = bytearray(b"\xff" * (max(blocks) + PAYLOAD_BYTES - _FLASH))
    for address, data in blocks.items():
        image[address - _FLASH : address - _FLASH + PAYLOAD_BYTES] = data
    return bytes(image)


def _check_boot(image, family):
    """Raises FirmwareError if the chip would not start what is at the beginning of the flash."""
    if family.chip == "RP2040":
        if _crc(image[: _BOOT2_BYTES - 4]) != struct.unpack_from("<I", image, _BOOT2_BYTES - 4)[0]:
            raise FirmwareError(f"its first 256 bytes are no loader of an RP2040: the CRC differs; {_DOWNLOAD}")
        return
    for at in range(0, min(len(image), _SEARCHED_BYTES) - 8, 4):
        marker, item = struct.unpack_from("<2I", image, at)
        if marker == _BOOT_BLOCK and item & 0xFF == _IMAGE_TYPE:
            core = {0: "arm", 1: "riscv"}.get(item >> 24 & 7)
            if core != family.core:
                raise FirmwareError(f"it is marked {family}, its program is for {core or 'another core'}; {_DOWNLOAD}")
            return
    raise FirmwareError(f"its first {_SEARCHED_BYTES:,} bytes hold no block that an RP2350 starts from; {_DOWNLOAD}")


def _crc(data):
    """CRC-32 with the high bit first, as the ROM of an RP2040 computes it."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    return value


def _binary_info(image):
    """Returns dict of filesystem, program, version and board, as far as the firmware tells them."""
    found = {}
    for at in range(0, min(len(image), _SEARCHED_BYTES) - 20, 4):
        marker, start, end, _, last = struct.unpack_from("<5I", image, at)
        if (marker, last) == (_INFO, _INFO_END):
            for pointer in range(start, min(end, start + 4 * _INFO_MAX), 4):
                _read_info(image, _word(image, pointer), found)
            break
    return found


def _read_info(image, address, found):
    kind = _word(image, address)
    if kind is None:
        return
    if kind & 0xFFFF == _INFO_STRING:
        name = {_PROGRAM: "program", _VERSION: "version", _BOARD: "board"}.get(_word(image, address + 4))
        if name:
            found.setdefault(name, _string(image, _word(image, address + 8)))
    elif kind & 0xFFFF == _INFO_DISK:
        start, n, flags = (_word(image, address + at) for at in (8, 12, 20))
        if flags is not None and flags & _WRITABLE and _is_area(start, n):
            found.setdefault("filesystem", (start, start + n))


def _is_area(start, n):
    return n > 0 and start >= _FLASH and start + n <= _FLASH_END and start % SECTOR_BYTES == n % SECTOR_BYTES == 0


def _word(image, address):
    """Returns the 32-bit word at an address, None where the file has nothing there."""
    if address is None or not _FLASH <= address <= _FLASH + len(image) - 4:
        return None
    return struct.unpack_from("<I", image, address - _FLASH)[0]


def _string(image, address):
    if _word(image, address) is None:
        return ""
    return image[address - _FLASH : address - _FLASH + 64].split(b"\0")[0].decode("ascii", "replace")
