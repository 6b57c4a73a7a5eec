"""Damaged firmware files: each is refused with one sentence, before a board is looked for.

    python tests/fuzz/test_firmware_files.py N

checks N damaged files.
"""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import firmware_files as files
from attn8.boards import esp_image, flash, uf2

N_DAMAGED = 3000


def refusal(tmp_path, data):
    """Returns the sentence with which a file is refused."""
    path = tmp_path / "firmware"
    path.write_bytes(data)
    with pytest.raises(esp_image.FirmwareError) as refused:
        flash.flash(path, "/dev/null")
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def changed(data, at, value):
    data = bytearray(data)
    data[at : at + len(value)] = value
    return bytes(data)


GOOD = files.esp_file()
ESP_DAMAGE = {
    "its bootloader is damaged: the checksum differs": changed(GOOD, 40, b"x"),
    "its bootloader is damaged: the SHA-256 in it differs": changed(GOOD, 4, b"x"),
    "its bootloader is damaged: no image at byte 0": changed(GOOD, 1, b"\0"),
    "its bootloader is for an unknown chip, number 99": changed(GOOD, 12, b"\x63"),
    "its application is damaged: the checksum differs": changed(GOOD, 0x10100, b"x"),
    "its application is damaged: no image at byte 65,536": changed(GOOD, 0x10000, b"\0"),
    "its application is cut short: the file ends at byte 66,000": GOOD[:66_000],
    "no whole partition table at 0x8000": changed(GOOD, 0x8004, b"x"),
    "no application where the partition table has one": GOOD[:0x10000],
    "a bootloader for ESP32-S3 with an application for ESP32-C3": files.esp_file(app=files.esp_image("ESP32-C3")),
    "a bootloader at 0x1000, expected 0x0 for an ESP32-S3": b"\xff" * 0x1000 + GOOD,
    "an application alone, as for updates over the air": files.esp_image(segments=(bytes(200_000),)),
    "an application of 100,080 bytes in a partition of 65,536": files.esp_file(
        partitions=(files.NVS, (0, 0, 0x10000, 0x10000, "factory")),
        app=files.esp_image(segments=(random.Random(2).randbytes(100_000),)),
    ),
    "expected a .bin file of an ESP32 or a .uf2 file, got an ELF file": b"\x7fELF" + bytes(500),
    "got a web page, not what it links to": b"<!DOCTYPE html>",
    "got a ZIP archive; unpack it": b"PK\x03\x04" + bytes(100),
    "got neither; take that of your board": b"",
    "an application alone, as for updates over the air, without": files.esp_image(segments=(b"\x32\x54\xcd\xab" * 9,)),
}


@pytest.mark.parametrize("sentence", ESP_DAMAGE)
def test_damaged_esp32_file_is_refused_before_a_board_is_looked_for(tmp_path, sentence):
    assert sentence in refusal(tmp_path, ESP_DAMAGE[sentence])


UF2 = files.uf2_file()
UF2_DAMAGE = {
    "expected a multiple of 512: cut short": UF2[:1000],
    "it has 79 blocks, expected 80, each once: not whole": UF2[512:],
    "it has 81 blocks, expected 80": UF2 + UF2[:512],
    "its block at byte 512 is damaged: no UF2 marks": changed(UF2, 512, b"x"),
    "its block at byte 0 is damaged: no UF2 marks": changed(UF2, 508, b"x"),
    "its block at byte 1,024 has flags 0x0": changed(UF2, 1032, b"\0\0\0\0"),
    "its first 256 bytes are no loader of an RP2040: the CRC differs": changed(UF2, 40, b"x"),
    "it holds firmware for several chips": UF2 + files.uf2_file("RP2350", e10=False),
    "it is for an unknown chip, family 0x12345678": b"".join(
        changed(UF2[at : at + 512], 28, b"\x78\x56\x34\x12") for at in range(0, len(UF2), 512)
    ),
    "it has a block for address 0x20000000, expected flash": files.uf2_file(start=0x20000000),
    "it has two blocks for one address": changed(UF2, 524, UF2[12:16]),
    "lie in two sectors, which an RP2040 would write wrong (RP2040-E14)": files.uf2_file(start=0x10000100),
    "its first 4,096 bytes hold no block that an RP2350 starts from": files.uf2_file("RP2350", bytes(8192)),
    "it is marked RP2350 (Arm), its program is for riscv": files.uf2_file("RP2350", files.rp2_image("RP2350-RISCV")),
}


@pytest.mark.parametrize("sentence", UF2_DAMAGE)
def test_damaged_uf2_file_is_refused_before_a_board_is_looked_for(tmp_path, sentence):
    assert sentence in refusal(tmp_path, UF2_DAMAGE[sentence])


def test_binary_info_that_leads_nowhere_is_passed_over():
    image = files.rp2_image(n_bytes=8192)
    assert uf2.parse(files.uf2_file("RP2040", image)).board == "pico"
    for at in (*range(0x1D4, 0x1E8, 4), *range(0x1000, 0x10B0, 4)):
        for value in (0, 0x10001FFE, 0x20000000, 0xFFFFFFFC):
            found = uf2.parse(files.uf2_file("RP2040", changed(image, at, value.to_bytes(4, "little"))))
            assert found.filesystem in (None, (0x100A0000, 0x10200000))


def damaged(generator, data):
    """Returns data with bits flipped, bytes replaced, a part cut, doubled or swapped: one to three of these."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        n_bytes = max(1, len(data))
        # The heads of blocks, images and tables decide most: half of the damage goes there.
        head = generator.choice((0, 0x8000, 0x10000, 512 * generator.randrange(n_bytes // 512 + 1)))
        at = generator.choice((head + generator.randrange(36), generator.randrange(n_bytes))) % n_bytes
        n = generator.choice((1, 4, 32, 512))
        part = bytes(data[at : at + n])
        word = generator.choice((b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f"))
        data[at : at + n] = generator.choice(
            (
                bytes(b ^ 1 << generator.randrange(8) for b in part[:1]) + part[1:],
                generator.randbytes(len(part)),
                b"",
                part + part,
                word[: len(part)] + part[4:],
            )
        )
        if generator.random() < 0.05:
            del data[at:]
    return bytes(data)


def check_damaged(path, n, seed=0):
    """Returns (refused, accepted) of n damaged files; any other end than FirmwareError's one line is an error."""
    generator, n_refused = random.Random(seed), 0
    small = files.esp_file("ESP32-C3", app=files.esp_image("ESP32-C3", (b"app" * 100,)))
    good = [small, files.uf2_file("RP2040", files.rp2_image(n_bytes=8192)), files.uf2_file("RP2350")]
    for _ in range(n):
        path.write_bytes(damaged(generator, generator.choice(good)))
        try:
            found = flash.read_firmware(path)
        except esp_image.FirmwareError as error:
            assert str(error).startswith(f"{path}: ")
            n_refused += 1
            continue
        if isinstance(found, uf2.Uf2):
            assert found.family.addresses[0] <= found.start < found.end <= found.family.addresses[1]
            assert uf2.parse(found.encode()).blocks == found.blocks
        else:
            pieces = found.pieces()
            assert all(found.start <= at and at + len(data) <= found.end for at, data in pieces)
    return n_refused, n - n_refused


def test_damaged_files_end_in_one_sentence_never_in_a_traceback(tmp_path):
    n_refused, n_accepted = check_damaged(tmp_path / "firmware", N_DAMAGED)
    assert n_refused > N_DAMAGED / 2
    assert n_accepted > 0  # of blocks and gaps that no sum covers


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        n_refused, n_accepted = check_damaged(Path(folder, "firmware"), int(sys.argv[1]), seed=1)
        print(f"{n_refused} refused, {n_accepted} accepted")
