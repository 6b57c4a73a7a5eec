"""`attn8 flash` of ESP32 boards by the real esptool: checked before anything is written, compared after, files kept."""

import fcntl
import hashlib
import os
import random
import subprocess
import sys

import pytest
from flashing import attn8, flashed, make_quick, need_esptool, refused, written

import firmware_files as files
from attn8.boards import esp_program, flash
from attn8.errors import ToolMissingError
from esp_rom import EspRom

VFS = slice(files.VFS_AT, 4 << 20)
NVS = slice(0x9000, 0xF000)
OTA = ((1, 2, 0x9000, 0x4000, "nvs"), (1, 0, 0xD000, 0x2000, "otadata"), (0, 16, 0x10000, 0x180000, "ota_0"))


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    need_esptool()
    make_quick(monkeypatch, tmp_path)


@pytest.fixture
def firmware(tmp_path):
    return lambda data: written(tmp_path, data)


def used_flash(partitions=(files.NVS, files.PHY, files.APP)):
    """Returns the flash of a board with a firmware, settings and files."""
    flash = bytearray(b"\xff" * (4 << 20))
    flash[0x8000:0x8C00] = files.esp_table(partitions)
    for area in (NVS, VFS):
        flash[area] = random.Random(1).randbytes(area.stop - area.start)
    return bytes(flash)


@pytest.mark.parametrize("chip", ["ESP32", "ESP32-S2", "ESP32-C3", "ESP32-S3", "ESP32-C6"])
def test_esp32_firmware_is_written_where_its_chip_wants_it_and_compared(firmware, chip):
    data = files.esp_file(chip)
    with EspRom(chip) as rom:
        found = flashed(firmware(data), "--port", rom.port)
        start = 0x1000 if chip in ("ESP32", "ESP32-S2") else 0
        assert rom.flash[start : start + len(data)] == data
        assert rom.flash[:start] == b"\xff" * start
    assert (found["chip"], found["from"], found["to"]) == (chip, start, start + len(data))
    assert found["verified"] == "the chip computed the same MD5 over its flash"
    assert found["next"] == f"attn8 install --port {rom.port}"
    assert 0x13 in rom.commands
    assert "esptool" not in sys.modules


def test_image_of_a_whole_flash_is_taken_too(firmware):
    data = files.esp_file("ESP32", whole_flash=True)
    with EspRom("ESP32") as rom:
        assert flashed(firmware(data), "--port", rom.port)["from"] == 0
        assert rom.flash[: len(data)] == data


def test_files_and_settings_on_an_esp32_stay(firmware):
    before = used_flash()
    with EspRom(flash=before) as rom:
        found = flashed(firmware(files.esp_file()), "--port", rom.port)
        assert rom.flash[VFS] == before[VFS]
        assert rom.flash[NVS] == before[NVS]
        assert rom.flash[0] == 0xE9
    assert found["files"] == {"from": files.VFS_AT, "to": 4 << 20, "kept": True}


def test_erase_asks_and_then_blanks_files_and_settings(firmware, monkeypatch):
    path, before = firmware(files.esp_file()), used_flash()
    with EspRom(flash=before) as rom:
        code, _, error = attn8("flash", path, "--port", rom.port, "--erase", input="y\n")
        assert code == 2
        assert "Nobody is there to ask; add --yes" in error
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
        code, _, error = attn8("flash", path, "--port", rom.port, "--erase", input="n\n")
        assert code == 1
        assert "all files on the board are erased too. Go on?" in error
        assert (rom.commands, rom.flash) == ([], before)
        found = flashed(path, "--port", rom.port, "--erase", "--yes")
        assert rom.flash[VFS] == b"\xff" * (VFS.stop - VFS.start)
        assert rom.flash[: path.stat().st_size] == path.read_bytes()
    assert found["files"]["kept"] is False


def test_board_without_reset_lines_gets_the_stub_once(firmware):
    with EspRom(reset_lines=False) as rom:
        flashed(firmware(files.esp_file()), "--port", rom.port)
        assert rom.n_stubs == 1


def test_dry_run_looks_at_the_board_and_writes_nothing(firmware):
    path, before = firmware(files.esp_file()), used_flash()
    with EspRom(flash=before) as rom:
        found = flashed(path, "--port", rom.port, "--dry-run")
        assert (rom.flash, rom.written) == (before, [])
    assert (found["written"], found["verified"], found["next"]) == (False, None, None)
    assert flashed(path, "--dry-run")["port"] is None
    assert "written   nothing: a dry run" in attn8("flash", path, "--dry-run")[1]


def test_board_is_restarted_after_the_last_step_and_kept_in_the_stub_before(firmware, monkeypatch):
    path, ends, run = firmware(files.esp_file()), [], esp_program._run
    monkeypatch.setattr(esp_program, "_run", lambda command, *rest: ends.append(after(command)) or run(command, *rest))
    with EspRom() as rom:
        for option in ((), ("--dry-run",)):
            flashed(path, "--port", rom.port, *option)
            assert ends == ["no-reset-stub", "no-reset-stub", "hard-reset"]
            ends.clear()
    with EspRom("ESP32-C3") as rom:
        refused(path, "--port", rom.port)
    assert ends == ["no-reset-stub", "hard-reset"]


def after(command):
    return command[command.index("--after") + 1]


def untouched(rom, path, *options, code=1):
    """Returns the line of a refusal that left the flash as it was."""
    before = bytes(rom.flash)
    error = refused(path, "--port", rom.port, *options, code=code)
    assert (bytes(rom.flash), rom.written) == (before, [])
    return error


def test_wrong_chip_is_refused_before_anything_is_written(firmware):
    with EspRom("ESP32-C3") as rom:
        error = untouched(rom, firmware(files.esp_file("ESP32-S3")))
    assert "wrong chip: this is an ESP32-C3, " in error
    assert "firmware.bin is for an ESP32-S3; take its own file" in error


def test_flash_that_is_too_small_is_refused(firmware):
    with EspRom(flash=b"\xff" * (2 << 20)) as rom:
        error = untouched(rom, firmware(files.esp_file(flash_mb=8)), code=3)
    assert "needs 8 MB of flash, the board has 2 MB; take the file for this flash size" in error


def test_firmware_that_would_not_find_the_files_is_refused(firmware):
    path = firmware(files.esp_file(partitions=(*OTA, (0, 17, 0x190000, 0x180000, "ota_1"))))
    with EspRom(flash=used_flash()) as rom:
        error = untouched(rom, path)
        assert "it looks for them at 0x310000, the files on the board begin at 0x200000; save your files" in error
        flashed(path, "--port", rom.port, "--erase", "--yes")


def test_firmware_that_would_overwrite_the_files_is_refused(firmware):
    app = files.esp_image(segments=(bytes(0x20000),))
    small = (files.NVS, files.PHY, (0, 0, 0x10000, 0x10000, "factory"))
    with EspRom(flash=used_flash(small)) as rom:
        error = untouched(rom, firmware(files.esp_file(app=app)))
    assert "it would overwrite the files on the board, which begin at 0x20000; save your files" in error


def test_wrong_md5_is_told_with_what_to_do(firmware):
    with EspRom(bad_md5=True) as rom:
        error = refused(firmware(files.esp_file()), "--port", rom.port)
    assert "what the chip has in its flash is not what was written, the MD5 differs" in error
    assert "flash it again, at --baud 115200 and with another cable; hold its BOOT button" in error


def big_app():
    return files.esp_image(segments=(random.Random(2).randbytes(100_000),))


@pytest.mark.parametrize("fault", ["cut_after", "stall_after"])
def test_cut_cable_says_that_the_board_must_be_flashed_again(firmware, fault):
    path = firmware(files.esp_file(app=big_app()))
    before = used_flash()
    with EspRom(flash=before, **{fault: 70_000}) as rom:
        error = refused(path, "--port", rom.port)
        assert rom.written
    assert "the connection broke while writing" in error
    assert "the board has no whole firmware now: flash it again" in error
    with EspRom(flash=rom.flash) as rom:
        flashed(path, "--port", rom.port)
        assert rom.flash[0x10000:][: len(big_app())] == big_app()
        assert (rom.flash[VFS], rom.flash[NVS]) == (before[VFS], before[NVS])


def test_board_that_does_not_answer_is_told_with_the_button_to_hold(firmware):
    with EspRom(silent=True) as rom:
        error = refused(firmware(files.esp_file()), "--port", rom.port)
    assert "no ESP32 answers" in error
    assert "hold its BOOT button, press and release reset, let BOOT go, then try again" in error


def test_busy_port_is_told(firmware):
    with EspRom() as rom:
        holder = os.open(rom.port, os.O_RDWR | os.O_NOCTTY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        error = refused(firmware(files.esp_file()), "--port", rom.port)
        os.close(holder)
    assert f"{rom.port}: busy, another program has it open; close that terminal" in error


def test_ctrl_c_while_writing_says_what_it_leaves(firmware):
    def stop(*step):
        raise KeyboardInterrupt

    path, said = firmware(files.esp_file(app=big_app())), []
    with EspRom() as rom:
        with pytest.raises(KeyboardInterrupt):
            flash.flash(path, rom.port, say=said.append, progress=stop)
        assert rom.written
    assert said[-1].endswith("the board has no whole firmware now; give the same command again")


def test_missing_port_is_told(firmware):
    error = refused(firmware(files.esp_file()), "--port", "/dev/ttyNONE")
    assert "/dev/ttyNONE: no such port; the boards are: " in error


def test_missing_esptool_is_told(firmware, monkeypatch):
    monkeypatch.setattr(esp_program.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissingError, match=r"pip install 'attn8\[boards\]'"):
        flash.flash(firmware(files.esp_file()), "/dev/null")


def test_esptool_that_does_not_run_is_told(firmware, monkeypatch, tmp_path):
    (tmp_path / "esptool.py").write_text("raise TypeError('get_metavar')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with EspRom() as rom:
        error = untouched(rom, firmware(files.esp_file()))
    assert "esptool does not run (TypeError: get_metavar); pip install --upgrade 'attn8[boards]'" in error


def test_esptool_that_hangs_is_ended(firmware, monkeypatch, tmp_path):
    (tmp_path / "esptool.py").write_text("import time; print('Serial port', flush=True); time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(esp_program, "_QUIET_S", 1)
    with EspRom() as rom:
        assert "no ESP32 answers (esptool printed nothing for 1 s)" in untouched(rom, firmware(files.esp_file()))


def test_images_of_these_tests_are_those_that_esptool_reads(firmware):
    for chip in files.ESP_IDS:
        path = firmware(files.esp_image(chip))
        command = [sys.executable, "-m", "esptool", "image-info", str(path)]
        told = subprocess.run(command, capture_output=True, text=True).stdout
        assert f"Detected image type: {chip}\n" in told
        assert told.count("(valid)") == 2


def test_file_that_is_not_there_is_one_line(tmp_path):
    assert "no.bin: No such file or directory; give the firmware file" in refused(tmp_path / "no.bin")
    assert "Is a directory" in refused(tmp_path)


def test_file_must_have_the_sha256_of_its_download_page(firmware):
    good = files.esp_file()
    path = firmware(good)
    assert flashed(path, "--dry-run", "--sha256", hashlib.sha256(good).hexdigest().upper())["chip"] == "ESP32-S3"
    assert "expected 00ff; download it again" in refused(path, "--sha256", "00ff")


def test_file_without_a_sha256_inside_is_told(firmware):
    _, _, error = attn8("flash", firmware(files.esp_file(hashed=False)), "--dry-run")
    assert "a part of it carries no SHA-256, only a checksum; --sha256 compares the whole file" in error


@pytest.mark.parametrize(
    ("chip", "board", "fits"),
    [
        *(("ESP32-S3", "esp32s3", True), ("ESP32-S3", "esp32c3", False), ("RP2040", "pico", True)),
        *(("RP2040", "esp32", False), ("RP2350", "pico2", True), ("RP2350", "pico2-riscv", False)),
        *(("RP2350-RISCV", "pico2-riscv", True), ("RP2350-RISCV", "pico2", False), ("RP2350", "pico", False)),
    ],
)
def test_file_must_be_for_the_board_that_is_named(firmware, chip, board, fits):
    path = firmware(files.uf2_file(chip) if chip.startswith("RP") else files.esp_file(chip))
    if fits:
        assert flashed(path, "--board", board, "--dry-run")["chip"].startswith(chip.partition("-R")[0])
    else:
        assert f"for {board}; take the file for {board}" in refused(path, "--board", board, "--dry-run")
