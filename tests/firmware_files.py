"""Firmware files for tests, as small as they can be and whole: ESP32 files for a board, UF2 files of RP2 boards."""

import hashlib
import struct
import zlib

ESP_IDS = {"ESP32": 0, "ESP32-S2": 2, "ESP32-C3": 5, "ESP32-S3": 9, "ESP32-C6": 13}
ESP_STARTS = {"ESP32": 0x1000, "ESP32-S2": 0x1000}
NVS = (1, 2, 0x9000, 0x6000, "nvs")
PHY = (1, 1, 0xF000, 0x1000, "phy_init")
APP_AT, APP_BYTES, VFS_AT = 0x10000, 0x1F0000, 0x200000
APP = (0, 0, APP_AT, APP_BYTES, "factory")
RP2_FAMILIES = {"RP2040": 0xE48BFF56, "RP2350": 0xE48BFF59, "RP2350-RISCV": 0xE48BFF5A}
FLASH = 0x10000000
PICO_FILES = (FLASH + 0xA0000, 1408 * 1024)
E10 = 0xE48BFF57


def esp_image(chip="ESP32-S3", segments=(b"code" * 64, bytes(range(256)) * 20), flash_mb=4, hashed=True):
    """Returns an application or bootloader image."""
    size = flash_mb.bit_length() - 1 << 4
    data = struct.pack(
        "<BBBBIBBBBHBHH4xB", 0xE9, len(segments), 2, size, 0x40080000, 0xEE, 0, 0, 0, ESP_IDS[chip], *(0, 0), 99, hashed
    )
    checksum = 0xEF
    for segment in segments:
        data += struct.pack("<II", 0x3FFB0000, len(segment)) + segment
        for byte in segment:
            checksum ^= byte
    data += bytes(15 - len(data) % 16) + bytes((checksum,))
    return data + (hashlib.sha256(data).digest() if hashed else b"")


def esp_table(partitions=(NVS, PHY, APP)):
    """Returns a partition table with its hash."""
    rows = b"".join(
        struct.pack("<HBBII16sI", 0x50AA, kind, subtype, start, n, label.encode(), 0)
        for kind, subtype, start, n, label in partitions
    )
    rows += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(rows).digest()
    return rows.ljust(0xC00, b"\xff")


def esp_file(chip="ESP32-S3", partitions=(NVS, PHY, APP), app=None, flash_mb=4, whole_flash=False, hashed=True):
    """Returns a .bin file for a whole board; with ``whole_flash`` from address 0 on."""
    start = ESP_STARTS.get(chip, 0)
    app_at = next(p[2] for p in partitions if p[0] == 0)
    image = bytearray(b"\xff" * app_at)
    boot = esp_image(chip, (b"boot" * 100,), flash_mb, hashed)
    image[start : start + len(boot)] = boot
    image[0x8000:0x8C00] = esp_table(partitions)
    image += app or esp_image(chip, flash_mb=flash_mb, hashed=hashed)
    return bytes(image if whole_flash else image[start:])


def rp2_image(chip="RP2040", n_bytes=20_000, files=PICO_FILES, program="MicroPython", board="pico"):
    """Returns what is to be at the beginning of the flash of an RP2: with its loader or boot block, and binary info."""
    image = bytearray(bytes(range(251)) * (n_bytes // 251 + 1))[:n_bytes]
    if chip == "RP2040":
        image[252:256] = struct.pack("<I", _boot2_crc(bytes(image[:252])))
    else:
        core = 1 if chip.endswith("RISCV") else 0
        struct.pack_into("<3I", image, 0x140, 0xFFFFDED3, 0x42 | 1 << 8 | (1 | core << 8 | 1 << 12) << 16, 0xAB123579)
    rows = [(6, b"RP", 0x02031C86, program), (6, b"RP", 0xB63CFFBB, board), (6, b"RP", 0x11A9BC3A, "v1.29.0")]
    at, pointers = 0x1000, []
    for kind, tag, number, text in rows:
        struct.pack_into("<H2sII", image, at, kind, tag, number, FLASH + at + 12)
        image[at + 12 : at + 32] = text.encode().ljust(20, b"\0")
        pointers.append(FLASH + at)
        at += 32
    if files:
        struct.pack_into("<H2s4IH", image, at, 7, b"MP", 0, *files, 0, 3)
        pointers.append(FLASH + at)
        at += 32
    struct.pack_into(f"<{len(pointers)}I", image, at, *pointers)
    info = FLASH + at, FLASH + at + 4 * len(pointers)
    struct.pack_into("<5I", image, 0x1D4, 0x7188EBF2, *info, 0, 0xE71AA390)
    return bytes(image)


def _boot2_crc(data):
    """The CRC of an RP2040's loader by way of zlib's, whose bits go the other way round."""
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2)


def uf2_block(address, data, number, n_blocks, family):
    """Returns 512 bytes."""
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, address, len(data), number, n_blocks, family)
    return head + data.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30)


def uf2_file(chip="RP2040", image=None, start=FLASH, e10=None, filled=4096):
    """Returns a UF2 file, in front of it the block of RP2350-E10, as picotool makes it, where the chip is one.

    Args:
        filled: the last so many bytes are filled up.
    """
    image = rp2_image(chip) if image is None else image
    image += b"\0" * (-len(image) % filled)
    parts = [image[at : at + 256] for at in range(0, len(image), 256)]
    family = RP2_FAMILIES[chip]
    blocks = [uf2_block(start + 256 * i, part, i, len(parts), family) for i, part in enumerate(parts)]
    if e10 if e10 is not None else chip != "RP2040":
        blocks.insert(0, uf2_block(0x10FFFF00, b"\xef" * 256, 0, 2, E10))
    return b"".join(blocks)
