"""`attn8 flash` of boards with a UF2 bootloader: found, compared, written whole, files kept; every fault one line."""

import contextlib
import errno
import io
import os
import random
import shlex
from pathlib import Path

import pytest
from flashing import attn8, flashed, make_quick, need_esptool, refused, written

import firmware_files as files
import readme
from attn8.boards import flash, mounts, uf2_drive
from attn8.boards.link import Port
from esp_rom import EspRom
from fake_uf2_drive import FakeDrive
from pty_board import Board

PICO = {"_machine": "Raspberry Pi Pico with RP2040", "platform": "rp2"}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    make_quick(monkeypatch, tmp_path)


@pytest.fixture
def firmware(tmp_path):
    return lambda data: written(tmp_path, data)


@pytest.mark.parametrize("chip", files.RP2_FAMILIES)
def test_rp2_firmware_is_written_whole_and_the_files_stay(firmware, tmp_path, chip):
    image = files.rp2_image(chip)
    before = random.Random(3).randbytes(2 << 20)
    with FakeDrive(tmp_path / "drive", chip.partition("-")[0], flash=before) as drive:
        found = flashed(firmware(files.uf2_file(chip, image)), "--drive", drive.folder)
        assert drive.restarted
        assert drive.flash[: len(image)] == image
        assert drive.flash[20480:] == before[20480:]
    assert found["files"] == {"from": 0x100A0000, "to": 0x10200000, "kept": True}
    assert found["verified"] == "the board took every block and restarted"
    assert found["next"] == "attn8 install"


def test_block_that_would_erase_the_last_sector_is_left_out(firmware, tmp_path):
    data = files.uf2_file("RP2350")
    before = random.Random(3).randbytes(2 << 20)
    for own in (True, False):
        with FakeDrive(tmp_path / "drive", "RP2350", flash=before) as drive:
            if own:
                flashed(firmware(data), "--drive", drive.folder)
            else:
                (drive.folder / "plain.uf2").write_bytes(data)
                drive._thread.join(5)
            assert drive.restarted
            assert (drive.flash[-4096:] == before[-4096:]) is own


def test_erase_blanks_the_files_of_an_rp2(firmware, tmp_path):
    image, before = files.rp2_image(), random.Random(3).randbytes(2 << 20)
    with FakeDrive(tmp_path / "drive", flash=before) as drive:
        path = firmware(files.uf2_file("RP2040", image, filled=256))
        found = flashed(path, "--drive", drive.folder, "--erase", "--yes")
        assert drive.restarted
        assert drive.flash[: len(image)] == image
        assert drive.flash[0xA0000:] == b"\xff" * (1408 * 1024)
        assert drive.flash[20480:0xA0000] == before[20480:0xA0000]
    assert found["files"]["kept"] is False


def test_blocks_that_reach_into_the_files_are_refused_unless_erase(firmware, tmp_path):
    image = files.rp2_image(n_bytes=0xA0000 + 8192)
    path = firmware(files.uf2_file("RP2040", image))
    with FakeDrive(tmp_path / "drive") as drive:
        error = refused(path, "--drive", drive.folder)
        assert "8,192 bytes of it lie where files do, from 0x100a0000, and would overwrite those on the board" in error
        assert not drive.restarted
        flashed(path, "--drive", drive.folder, "--erase", "--yes")
        assert drive.flash[: len(image)] == image


def test_file_that_does_not_say_where_files_lie_is_told_and_not_erased(firmware, tmp_path):
    path = firmware(files.uf2_file("RP2040", files.rp2_image(files=None)))
    with FakeDrive(tmp_path / "drive") as drive:
        assert "so --erase cannot blank them" in refused(path, "--drive", drive.folder, "--erase", "--yes")
        _, _, error = attn8("flash", path, "--drive", drive.folder)
        assert "it does not say where its files lie; only 0x10000000 to 0x10005000 is written" in error
        assert drive.restarted


def test_drive_of_another_chip_is_refused(firmware, tmp_path):
    with FakeDrive(tmp_path / "drive", "RP2350") as drive:
        error = refused(firmware(files.uf2_file("RP2040")), "--drive", drive.folder)
        assert "(Raspberry Pi RP2350, RP2350), expected a drive of an RP2040" in error
        assert list(drive.folder.iterdir()) == [drive.folder / "INFO_UF2.TXT"]


def test_only_boot_drive_is_found_and_two_are_told(firmware, tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("a", "b", "USB")]
    folders[2].mkdir()
    monkeypatch.setattr(uf2_drive, "mount_folders", lambda: folders)
    path = firmware(files.uf2_file())
    with FakeDrive(folders[0]), FakeDrive(folders[1]):
        assert "2 boot drives, name one with --drive: " in refused(path)
    with FakeDrive(folders[1]) as drive:
        assert flashed(path)["port"] == str(folders[1])
        assert drive.restarted


def test_drives_are_looked_for_where_computers_mount_them(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / pattern.replace("*", "RPI-RP2")])
    for platform, where in {"win32": "D:\\", "darwin": "/Volumes/RPI-RP2", "linux": "/media/RPI-RP2/RPI-RP2"}.items():
        monkeypatch.setattr(mounts.sys, "platform", platform)
        assert Path(where) in mounts.mount_folders()


def test_no_board_and_no_drive_says_which_button(firmware, tmp_path, monkeypatch):
    monkeypatch.setattr("attn8.boards.link.ports", list)
    path = firmware(files.uf2_file())
    assert "no boot drive of an RP2040, and no board: no USB serial port" in refused(path)
    assert "hold its BOOTSEL or BOOT button while plugging it in" in refused(path)
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert "no INFO_UF2.TXT there, so no boot drive; hold its BOOTSEL" in refused(path, "--drive", folder)


BOOTLOADER = """
def _machine():
    import sys
    class Machine:
        def bootloader(self):
            import vfs
            vfs.mount(vfs.VfsPosix({folder!r}), "/drive")
            with open("/drive/INFO_UF2.TXT", "w") as file:
                file.write({info!r})
            while True:
                pass
        def freq(self):
            return 125000000
    class Flash:
        def ioctl(self, op, argument):
            return {{4: {blocks}, 5: 4096}}[op]
    class Rp2:
        pass
    Rp2.Flash = Flash
    sys.modules["machine"], sys.modules["rp2"] = Machine(), Rp2()
_machine()
del _machine
"""


def running(folder, blocks=352, pretend=PICO):
    """Returns a board that runs MicroPython and whose machine.bootloader() shows the drive."""
    info = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
    return Board(pretend=pretend, firmware=BOOTLOADER.format(folder=str(folder), info=info, blocks=blocks))


def test_running_board_is_brought_into_its_bootloader(firmware, tmp_path, monkeypatch):
    monkeypatch.setattr(flash, "_BOOTLOADER_S", 1)
    folder = tmp_path / "drive"
    monkeypatch.setattr(uf2_drive, "mount_folders", lambda: [tmp_path / "other", folder])
    image = files.rp2_image()
    with FakeDrive(tmp_path / "other") as other, FakeDrive(folder, appears=False) as drive, running(folder) as board:
        found = flashed(firmware(files.uf2_file("RP2040", image)), "--port", board.port)
        assert drive.restarted
        assert not other.restarted
        assert drive.flash[: len(image)] == image
    assert found["port"] == str(folder)
    assert found["next"] == f"attn8 install --port {board.port}"


def test_drive_may_be_named_before_the_board_shows_it(firmware, tmp_path, monkeypatch):
    monkeypatch.setattr("attn8.boards.flash.open_link", lambda *_, **__: contextlib.nullcontext(Restarting()))
    monkeypatch.setattr("attn8.boards.flash.find_device", lambda port: port)
    later = tmp_path / "drive"
    drive = FakeDrive(later)

    class Restarting:
        device = "a0"

        def eval(self, *_, **__):
            return "micropython", PICO["_machine"], None

        def exec(self, *_, **__):
            drive.__enter__()

    try:
        assert not later.exists()
        assert flashed(firmware(files.uf2_file()), "--port", "a0", "--drive", later)["port"] == str(later)
        assert drive.restarted
    finally:
        drive.__exit__(None, None, None)


REFUSED_RUNNING = {
    "wrong chip: this is a Raspberry Pi Pico2 with RP2350": {
        "pretend": {"_machine": "Raspberry Pi Pico2 with RP2350", "platform": "rp2"}
    },
    "it keeps 1,441,792 bytes for files, the board has them in 868,352, so they would not be found": {"blocks": 212},
    "MicroPython cannot read the files that circuitpython has on the board; save your files": {
        "pretend": {**PICO, "name": "circuitpython"}
    },
}


@pytest.mark.parametrize("sentence", REFUSED_RUNNING)
def test_running_board_that_does_not_fit_keeps_running(firmware, tmp_path, sentence):
    folder = tmp_path / "drive"
    with FakeDrive(folder, appears=False), running(folder, **REFUSED_RUNNING[sentence]) as board:
        for option in ((), ("--dry-run",)):
            assert sentence in refused(firmware(files.uf2_file()), "--port", board.port, *option)
        assert list(folder.iterdir()) == []


def test_board_whose_drive_does_not_appear_is_told(firmware, tmp_path, monkeypatch):
    monkeypatch.setattr(flash, "_BOOTLOADER_S", 1)
    monkeypatch.setattr(uf2_drive, "DRIVE_S", 0.2)
    with FakeDrive(tmp_path / "drive", appears=False), running(tmp_path / "drive") as board:
        error = refused(firmware(files.uf2_file()), "--port", board.port)
    assert "no boot drive appeared within 0.2 s; where nothing mounts drives by itself, mount it" in error


def test_cable_cut_during_the_copy_says_that_the_board_must_be_flashed_again(firmware, tmp_path):
    data = files.uf2_file("RP2040", files.rp2_image(n_bytes=300_000))
    with FakeDrive(tmp_path / "drive", cut_after=100_000) as drive:
        error = refused(firmware(data), "--drive", drive.folder)
        assert not drive.restarted
    assert f"of {len(data):,} bytes ([Errno 32] Broken pipe): the board has no whole firmware now; hold its" in error


def test_ctrl_c_while_writing_says_what_it_leaves(firmware, tmp_path):
    def stop(*step):
        raise KeyboardInterrupt

    path, said = firmware(files.uf2_file()), []
    with FakeDrive(tmp_path / "drive") as drive, pytest.raises(KeyboardInterrupt):
        flash.flash(path, drive=drive.folder, say=said.append, progress=stop)
    assert said[-1].endswith("the board has no whole firmware now; give the same command again")


class Full(io.FileIO):
    """A file on a drive without room."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_drive_is_told(firmware, tmp_path, monkeypatch):
    monkeypatch.setattr(uf2_drive, "open", lambda path, mode, buffering: Full(path, mode), raising=False)
    with FakeDrive(tmp_path / "drive") as drive:
        error = refused(firmware(files.uf2_file()), "--drive", drive.folder)
    assert "the copy broke after 0 of 40,960 bytes ([Errno 28] No space left on device): nothing was written" in error


def test_board_that_does_not_restart_is_told(firmware, tmp_path):
    with FakeDrive(tmp_path / "drive", deaf=True) as drive:
        error = refused(firmware(files.uf2_file()), "--drive", drive.folder)
    assert "the board took the file but did not restart within 1 s: it arrived damaged" in error


@pytest.mark.parametrize("comes_back", [True, False])
def test_drive_that_goes_before_the_last_sync_counts_only_if_the_board_comes_back(
    firmware, tmp_path, monkeypatch, comes_back
):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    with FakeDrive(tmp_path / "drive") as drive:
        monkeypatch.setattr(
            uf2_drive, "ports", lambda: [Port("/dev/ttyACM0")] if drive.restarted and comes_back else []
        )
        monkeypatch.setattr(os, "fsync", fail)
        code, _, error = attn8("flash", firmware(files.uf2_file()), "--drive", drive.folder)
    assert code == (0 if comes_back else 1)
    assert ("the board has no whole firmware now" in error) is not comes_back


def test_uf2_file_goes_onto_the_drive_of_an_esp32_s3(firmware, tmp_path):
    app = files.esp_image("ESP32-S3") + bytes(3000)
    app = app[: len(app) // 256 * 256]
    n = len(app) // 256
    blocks = [files.uf2_block(256 * i, app[256 * i : 256 * i + 256], i, n, 0xC47E5767) for i in range(n)]
    with FakeDrive(tmp_path / "S3BOOT", "ESP32-S3") as drive:
        assert flashed(firmware(b"".join(blocks)), "--drive", drive.folder)["chip"] == "ESP32-S3"
        assert drive.flash[: len(app)] == app


def test_commands_of_the_readme_run(tmp_path, monkeypatch):
    need_esptool()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(uf2_drive, "mount_folders", lambda: [tmp_path / "drive"])
    Path("ESP32_GENERIC_S3.bin").write_bytes(files.esp_file("ESP32-S3"))
    Path("RPI_PICO.uf2").write_bytes(files.uf2_file("RP2040"))
    with EspRom("ESP32-S3") as rom, FakeDrive(tmp_path / "drive") as drive:
        for line in readme.command("flash").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "attn8"
            code, out, error = attn8(*[rom.port if argument == "u0" else argument for argument in arguments])
            assert code == 0, error
            assert "verified  " in out
        assert drive.restarted
        assert rom.written


def test_names_from_drives_and_files_do_not_reach_the_terminal_raw(firmware, tmp_path):
    with FakeDrive(tmp_path / "drive", "RP2350") as drive:
        (drive.folder / "INFO_UF2.TXT").write_text("Model: \x1b[2J\nBoard-ID: RP2350\n")
        error = refused(firmware(files.uf2_file("RP2040")), "--drive", drive.folder)
    assert "\x1b" not in error
