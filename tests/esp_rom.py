"""An ESP32 for tests: what its ROM loader and the flasher stub of esptool answer, on a pty.

Commands, their fields and the register numbers are those of Espressif's "Serial Protocol" page of esptool's
documentation and of the chips' technical reference manuals. Uploaded code is not run: once all of it has arrived, the
responder greets and answers as the stub does. Flash is a bytearray in which a write erases its sectors first, as on a
chip; what a test wants to know it finds there. A pty carries no DTR and RTS: with ``reset_lines`` the chip goes back to
its ROM when the port is closed, which is when a board with these lines is reset; without, the stub stays.
"""

import contextlib
import errno
import hashlib
import os
import pty
import select
import struct
import threading
import time
import tty
import zlib
from dataclasses import dataclass

SECTOR_BYTES = 4096
_END, _ESCAPE, _IS_END, _IS_ESCAPE = b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd"
_ROM_SYNC = 0x20120707  # any number but 0, which is the stub's
_BAD_CHECKSUM, _BAD_COMMAND, _BAD_FORMAT = 7, 5, 6
_SLICE_S = 0.05
_READ_ID, _READ_SFDP, _SFDP = 0x9F, 0x5A, 0x50444653
_MAKER, _KIND = 0xC8, 0x40  # of a common flash chip; the size is in the third byte
_RAM_BYTES = 1 << 19


@dataclass(frozen=True)
class Chip:
    """A chip: its id in images, the word at 0x40001000 that older ones are known by, where its SPI registers are."""

    id: int
    magic: int
    spi: int
    user2: int = 0x20
    data: int = 0x58


CHIPS = {
    "ESP32": Chip(0, 0x00F01D83, 0x3FF42000, 0x24, 0x80),
    "ESP32-S2": Chip(2, 0x000007C6, 0x3F402000),
    "ESP32-C3": Chip(5, 0, 0x60002000),
    "ESP32-S3": Chip(9, 0, 0x60002000),
    "ESP32-C6": Chip(13, 0, 0x60003000),
}


class EspRom:
    """A chip in download mode at ``port``. Use it as a context manager.

    Args:
        chip: a name of CHIPS.    flash: bytes that are in its flash; their number is its size, a power of two.
        reset_lines: whether closing the port resets it.    silent: it never answers.
        cut_after: bytes written to flash after which the cable is pulled.    stall_after: likewise, it falls silent.
        bad_md5: the hash of the flash that it tells is wrong.

    Attributes:
        port: device path.    flash: bytearray.    commands: list of the numbers of commands that came.
        written: list of (address, bytes) of each write.    n_stubs: how many times the stub was uploaded.
    """

    def __init__(
        self,
        chip="ESP32-S3",
        flash=b"\xff" * (4 << 20),
        reset_lines=True,
        silent=False,
        cut_after=None,
        stall_after=None,
        bad_md5=False,
    ):
        self.name, self.chip, self.flash = chip, CHIPS[chip], bytearray(flash)
        self.reset_lines, self.silent, self.bad_md5 = reset_lines, silent, bad_md5
        self.cut_after, self.stall_after = cut_after, stall_after
        self.commands, self.written, self.n_stubs = [], [], 0
        self._registers, self._stop, self._reading = {}, threading.Event(), None
        self._reset()

    def __enter__(self):
        self._host, plug = pty.openpty()
        tty.setraw(plug)
        os.set_blocking(self._host, False)
        self.port = os.ttyname(plug)
        os.close(plug)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self._unplug()

    def _unplug(self):
        with contextlib.suppress(OSError):
            os.close(self._host)
        self._stop.set()

    def _reset(self):
        self._in_stub, self._left, self._ram, self._inflate = False, b"", 0, None

    def _serve(self):
        while not self._stop.is_set():
            try:
                if not select.select([self._host], [], [], _SLICE_S)[0]:
                    continue
                data = os.read(self._host, 1 << 16)
            except OSError as error:
                if error.errno == errno.EIO:  # nobody has the port open
                    if self.reset_lines:
                        self._reset()
                    time.sleep(0.01)
                continue
            if not self.silent:
                self._received(data)

    def _received(self, data):
        *frames, self._left = (self._left + data).split(_END)
        for frame in frames:
            packet = frame.replace(_IS_END, _END).replace(_IS_ESCAPE, _ESCAPE)
            if self._reading is not None and len(packet) == 4:
                self._acknowledged(*struct.unpack("<I", packet))
            elif len(packet) >= 8 and packet[0] == 0:
                self._command(packet)

    def _command(self, packet):
        _, op, n, checksum = struct.unpack("<BBHI", packet[:8])
        data = packet[8:]
        self.commands.append(op)
        handler = _HANDLERS.get(op)
        if handler is None or (op in _STUB_ONLY and not self._in_stub):
            self._fail(op, _BAD_COMMAND)
        elif len(data) != n:
            self._fail(op, _BAD_FORMAT)
        elif op in _WITH_DATA and _checksum(data[16:]) != checksum & 255:
            self._fail(op, _BAD_CHECKSUM)
        else:
            handler(self, op, data)

    def _send(self, packet):
        framed = _END + packet.replace(_ESCAPE, _IS_ESCAPE).replace(_END, _IS_END) + _END
        while framed and not self._stop.is_set():
            try:
                framed = framed[os.write(self._host, framed) :]
            except BlockingIOError:
                select.select([], [self._host], [], _SLICE_S)
            except OSError:
                return

    def _answer(self, op, value=0, data=b"", status=b"\0\0"):
        data += status if self._in_stub else status + b"\0\0"
        self._send(struct.pack("<BBHI", 1, op, len(data), value) + data)

    def _fail(self, op, reason):
        self._answer(op, status=bytes((1, reason)))

    def _sync(self, op, data):
        for _ in range(8):
            self._answer(op, 0 if self._in_stub else _ROM_SYNC)

    def _security(self, op, data):
        if self.chip.magic and self.name != "ESP32-S2":
            self._fail(op, _BAD_COMMAND)
            return
        told = struct.pack("<I8x", 0)
        self._answer(op, data=told if self.chip.magic else told + struct.pack("<II", self.chip.id, 0))

    def _read_register(self, op, data):
        address = struct.unpack("<I", data)[0]
        value = self._registers.get(address, 0)
        if address == 0x40001000:
            value = self.chip.magic
        elif address == self.chip.spi:
            value = 0  # a command is done at once
        elif address == self.chip.spi + self.chip.data:
            command = self._registers.get(self.chip.spi + self.chip.user2, 0) & 255
            size = (len(self.flash).bit_length() - 1) << 16 | _KIND << 8 | _MAKER
            value = {_READ_ID: size, _READ_SFDP: _SFDP}.get(command, 0)
        self._answer(op, value)

    def _write_register(self, op, data):
        for at in range(0, len(data) - 15, 16):
            address, value, mask, _ = struct.unpack("<4I", data[at : at + 16])
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
        self._answer(op)

    def _memory_begin(self, op, data):
        size = struct.unpack("<4I", data[:16])[0]
        self._ram += size
        self._answer(op) if self._ram <= _RAM_BYTES else self._fail(op, _BAD_FORMAT)

    def _memory_data(self, op, data):
        self._ram -= struct.unpack("<I", data[:4])[0]
        self._answer(op)

    def _memory_end(self, op, data):
        stay, entry = struct.unpack("<2I", data)
        self._answer(op)
        if not stay and entry and self._ram == 0:
            self._in_stub, self.n_stubs = True, self.n_stubs + 1
            self._send(b"OHAI")

    def _flash_begin(self, op, data):
        size, _, _, self._at = struct.unpack("<4I", data[:16])
        self._inflate = zlib.decompressobj() if op == 0x10 else None
        if not self._in_stub:
            self._erase(self._at, size)
        self._end, self._erased_to = self._at + size, self._at // SECTOR_BYTES * SECTOR_BYTES
        self._answer(op)

    def _flash_data(self, op, data):
        n = struct.unpack("<I", data[:4])[0]
        block = data[16 : 16 + n]
        if self._inflate:
            block = self._inflate.decompress(block)
        block = block[: max(0, self._end - self._at)]
        if self._at + len(block) > len(self.flash):
            self._fail(op, _BAD_FORMAT)
            return
        self._program(block)
        n_bytes = sum(len(written) for _, written in self.written)
        if self.cut_after is not None and n_bytes >= self.cut_after:
            self._unplug()
        elif self.stall_after is not None and n_bytes >= self.stall_after:
            self.silent = True
        else:
            self._answer(op)

    def _program(self, block):
        if self._in_stub and self._at + len(block) > self._erased_to:
            n = -(-(self._at + len(block) - self._erased_to) // SECTOR_BYTES) * SECTOR_BYTES
            self._erase(self._erased_to, n)
            self._erased_to += n
        self.flash[self._at : self._at + len(block)] = block
        self.written.append((self._at, block))
        self._at += len(block)

    def _erase(self, address, n):
        end = min(len(self.flash), -(-(address + n) // SECTOR_BYTES) * SECTOR_BYTES)
        begin = address // SECTOR_BYTES * SECTOR_BYTES
        self.flash[begin:end] = b"\xff" * (end - begin)

    def _flash_end(self, op, data):
        self._answer(op)
        if self._in_stub and data == bytes(4):  # it leaves, back to the ROM
            self._reset()

    def _erase_all(self, op, data):
        self._erase(0, len(self.flash))
        self._answer(op)

    def _md5(self, op, data):
        address, n = struct.unpack("<2I", data[:8])
        digest = hashlib.md5(self.flash[address : address + n]).digest()
        if self.bad_md5:
            digest = digest[::-1]
        self._answer(op, data=digest if self._in_stub else digest.hex().encode())

    def _read_flash(self, op, data):
        address, n, block, _ = struct.unpack("<4I", data)
        self._answer(op)
        self._reading = self.flash[address : address + n], block
        self._acknowledged(0)

    def _acknowledged(self, n):
        data, block = self._reading
        if n < len(data):
            self._send(bytes(data[n : n + block]))
        else:
            self._reading = None
            self._send(hashlib.md5(data).digest())

    def _ok(self, op, data):
        self._answer(op)


_STUB_ONLY = (0xD0, 0xD2)
_WITH_DATA = (0x03, 0x07, 0x11)
_HANDLERS = {
    **{0x02: EspRom._flash_begin, 0x03: EspRom._flash_data, 0x04: EspRom._flash_end},
    **{0x05: EspRom._memory_begin, 0x06: EspRom._memory_end, 0x07: EspRom._memory_data},
    **{0x08: EspRom._sync, 0x09: EspRom._write_register, 0x0A: EspRom._read_register},
    **{0x0B: EspRom._ok, 0x0D: EspRom._ok, 0x0F: EspRom._ok},
    **{0x10: EspRom._flash_begin, 0x11: EspRom._flash_data, 0x12: EspRom._flash_end, 0x13: EspRom._md5},
    **{0x14: EspRom._security, 0xD0: EspRom._erase_all, 0xD2: EspRom._read_flash, 0xD3: EspRom._ok},
}


def _checksum(data):
    value = 0xEF
    for byte in data:
        value ^= byte
    return value
