"""A file system in memory for boards on which nothing can be written; MicroPython mounts any object that has these."""

import os


class File:
    """An open file; its bytes are there as soon as they are written."""

    def __init__(self, data, at):
        self.data, self.at = data, at

    def read(self, n=-1):
        piece = bytes(self.data[self.at :] if n < 0 else self.data[self.at : self.at + n])
        self.at += len(piece)
        return piece

    def readinto(self, buffer):
        piece = self.read(len(buffer))
        for i in range(len(piece)):
            v = piece[i]
            try:
                buffer[i] = v
            except (OverflowError, ValueError):  # signed items
                buffer[i] = v - 256
        return len(piece)

    def write(self, data):
        self.data[self.at : self.at + len(data)] = data
        self.at += len(data)
        return len(data)

    def seek(self, at):
        self.at = at
        return at

    def flush(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class RamFS:
    """A folder of files, without folders in it."""

    def __init__(self):
        self.files = {}

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        if "w" in mode:
            self.files[path] = bytearray()
        elif path not in self.files:
            if "r" in mode:
                raise OSError(2)
            self.files[path] = bytearray()
        data = self.files[path]
        return File(data, len(data) if "a" in mode else 0)

    def stat(self, path):
        if path not in self.files:
            raise OSError(2)
        n = len(self.files[path])
        return 32768, 0, 0, 0, 0, 0, n, 0, 0, 0

    def remove(self, path):
        self.stat(path)
        del self.files[path]


def mounted(folder):
    """Mounts a new one and returns its folder."""
    try:
        from vfs import mount
    except ImportError:
        mount = os.mount
    mount(RamFS(), folder)
    return folder
