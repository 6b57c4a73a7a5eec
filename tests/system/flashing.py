"""What the tests of `attn8 flash` share: the verb in this process, and what keeps them quick."""

import importlib.util

from attn8.boards import esp_program, uf2_drive
from in_process import attn8, told
from tools import missing


def make_quick(monkeypatch, tmp_path):
    """No waiting for what does not come; the drives of this computer are none of the test's."""
    (tmp_path / "esptool.cfg").write_text("[esptool]\nconnect_attempts = 1\ntimeout = 1\n")
    monkeypatch.setenv("ESPTOOL_CFGFILE", str(tmp_path / "esptool.cfg"))
    monkeypatch.setattr(esp_program, "CONNECT_ATTEMPTS", 1)
    monkeypatch.setattr(uf2_drive, "DRIVE_S", 5)
    monkeypatch.setattr(uf2_drive, "GONE_S", 1)
    monkeypatch.setattr(uf2_drive, "mount_folders", list)


def need_esptool():
    """Skips the test where esptool is missing."""
    if importlib.util.find_spec("esptool") is None:
        missing("esptool", "pip install esptool")


def written(folder, data):
    """Returns the path of a firmware file of these bytes."""
    path = folder / "firmware.bin"
    path.write_bytes(data)
    return path


def flashed(*arguments):
    """Returns what `attn8 flash --json` prints."""
    return told("flash", *arguments)


def refused(*arguments, code=1):
    """Returns the one line with which `attn8 flash` ends."""
    found, out, error = attn8("flash", "--quiet", *arguments)
    assert (found, out) == (code, ""), error
    assert error.count("\n") == 1, error
    assert error.startswith("attn8: ")
    return error
