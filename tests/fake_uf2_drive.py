"""A boot drive for tests: a folder with INFO_UF2.TXT that takes a copied UF2 file as the ROM of an RP2 does.

The file is read block by block as it appears. Blocks of other families are ignored; when every block of a file has
come, the board restarts and its folder is gone. On an RP2040 a sector is erased for each 16 blocks by number
(RP2040-E14), on an RP2350 of revision A2 the absolute family is written too, where the address wraps at the end of the
flash.
"""

import os
import shutil
import struct
import threading
import time
from pathlib import Path

INFOS = {
    "RP2040": "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n",
    "RP2350": "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n",
    "ESP32-S3": "TinyUF2 Bootloader 0.20.1\r\nModel: Test Board\r\nBoard-ID: ESP32S3-Test-01\r\n",
}
_TAKEN = {
    "RP2040": (0xE48BFF56,),
    "RP2350": (0xE48BFF57, 0xE48BFF59, 0xE48BFF5A),
    "ESP32-S3": (0xC47E5767,),
}
_ABSOLUTE, _SECTOR = 0xE48BFF57, 4096
_POLL_S = 0.005


class FakeDrive:
    """A board in its bootloader. Use it as a context manager.

    Args:
        folder: that becomes its drive.    chip: a key of INFOS.    flash_bytes: of the board.    flash: what is there.
        appears: False waits until INFO_UF2.TXT is put there by somebody else.
        cut_after: bytes of the file after which the cable is pulled.    deaf: it never restarts.

    Attributes:
        folder: Path.    flash: bytearray.    restarted: whether it took a whole file.
    """

    def __init__(
        self,
        folder,
        chip="RP2040",
        flash_bytes=2 << 20,
        flash=None,
        appears=True,
        cut_after=None,
        deaf=False,
    ):
        self.folder, self.chip, self.cut_after, self.deaf = Path(folder), chip, cut_after, deaf
        self.flash = bytearray(flash or b"\xff" * flash_bytes)
        self.restarted, self._stop, self._appears = False, threading.Event(), appears
        self._seen, self._erased, self._left = set(), set(), b""

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._appears:
            (self.folder / "INFO_UF2.TXT").write_text(INFOS[self.chip], newline="")
        if self.cut_after is not None:  # a reader that goes away: the writer gets an error, as with a drive
            os.mkfifo(self.folder / "firmware.uf2")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _serve(self):
        at = 0
        while not self._stop.is_set() and not self.restarted:
            for file in self.folder.glob("*.uf2"):
                at = self._piped(file) if self.cut_after is not None else self._grown(file, at)
            time.sleep(_POLL_S)

    def _piped(self, file):
        while not self._stop.is_set():
            with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
                n = 0
                while n < self.cut_after and not self._stop.is_set():
                    data = pipe.read(self.cut_after - n)
                    n += len(data or b"")
                    self._take(data or b"")
                    time.sleep(0 if data else _POLL_S)
            shutil.rmtree(self.folder, ignore_errors=True)
            self._stop.set()
        return 0

    def _grown(self, file, at):
        try:
            with open(file, "rb") as f:
                f.seek(at)
                data = f.read()
        except FileNotFoundError:
            return at
        self._take(data)
        return at + len(data)

    def _take(self, data):
        data = self._left + data
        n = len(data) // 512 * 512
        self._left = data[n:]
        for i in range(0, n, 512):
            self._block(data[i : i + 512])

    def _block(self, block):
        magic, _, _, address, n, number, n_blocks, family = struct.unpack_from("<8I", block)
        if magic != 0x0A324655 or family not in _TAKEN[self.chip] or self.deaf:
            return
        self._write(address, block[32 : 32 + n], number)
        if family != _ABSOLUTE:
            self._seen.add(number)
            if len(self._seen) == n_blocks:
                self.restarted = True
                shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, address, data, number):
        at = (address - (0x10000000 if address >> 28 else 0)) % len(self.flash)
        sector = at // _SECTOR * _SECTOR
        erased = number // 16 if self.chip == "RP2040" else sector
        if erased not in self._erased:
            self.flash[sector : sector + _SECTOR] = b"\xff" * _SECTOR
            self._erased.add(erased)
        self.flash[at : at + len(data)] = bytes(
            a & b for a, b in zip(self.flash[at : at + len(data)], data, strict=True)
        )
