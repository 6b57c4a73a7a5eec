"""Single keys of a terminal as they are pressed, without Enter."""

import contextlib
import sys


class Keyboard:
    """Context manager; ``pressed()`` returns the characters typed since, "" where stdin is no terminal."""

    def __init__(self):
        self.is_terminal = bool(sys.stdin and sys.stdin.isatty())
        self._before = None

    def __enter__(self):
        if self.is_terminal:
            with contextlib.suppress(ImportError):  # Windows
                import termios
                import tty

                self._before = termios.tcgetattr(sys.stdin)
                tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_):
        if self._before:
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def pressed(self):
        if not self.is_terminal:
            return ""
        return _windows_keys() if sys.platform == "win32" else _posix_keys()


def _posix_keys():
    import os
    import select

    if not select.select([sys.stdin], [], [], 0)[0]:
        return ""
    return os.read(sys.stdin.fileno(), 64).decode(errors="replace")


def _windows_keys():
    import msvcrt

    found = ""
    while msvcrt.kbhit():
        found += msvcrt.getwch()
    return found
