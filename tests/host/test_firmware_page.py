"""FIRMWARE.md: what its commands name is in MicroPython's tree and in this one."""

import re

import pytest

from tools import ROOT, need_micropython_tree

PAGE = ROOT / "native_modules" / "FIRMWARE.md"
ROWS = [
    tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "make -C" in line
]
WANTED = {"Pico", "Pico W", "Pico 2", "Pico 2, RISC-V", "ESP32", "ESP32-S3", "ESP32-C3", "ESP32-C6"}


def options(command):
    """Returns {NAME: value} of a make line."""
    return dict(re.findall(r"(\w+)=(\S+)", command))


def test_each_board_has_its_command_and_says_whether_it_was_run():
    assert {row[0] for row in ROWS} >= WANTED
    assert all(row[4].partition(":")[0] in ("run", "not run") for row in ROWS)
    assert all(row[3] == "" or row[4].startswith("run") for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_command_names_a_port_a_board_and_a_variant_of_micropython(row):
    tree = need_micropython_tree()
    given, port = options(row[1]), tree / re.search(r"-C (\S+)", row[1])[1]
    assert (port / "Makefile").is_file()
    if "BOARD" in given:
        assert (port / "boards" / given["BOARD"]).is_dir()
    if "BOARD_VARIANT" in given:
        assert (port / "boards" / given["BOARD"] / f"mpconfigvariant_{given['BOARD_VARIANT']}.cmake").is_file()


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_command_names_the_module_of_this_tree(row):
    given = options(row[1])
    module = PAGE.parent / given["USER_C_MODULES"].removeprefix("$A").lstrip("/")
    assert module.is_file() if module.suffix else (module / "usermod" / "micropython.mk").is_file()
    build = "-".join(filter(None, (given.get("BOARD", "standard"), given.get("BOARD_VARIANT"))))
    assert row[2].startswith(f"build-{build}/")


def test_pages_it_sends_to_are_in_micropythons_tree():
    tree = need_micropython_tree()
    pages = re.findall(r"`(ports/\S+\.md)`", PAGE.read_text(encoding="utf-8"))
    assert pages
    assert [page for page in pages if not (tree / page).is_file()] == []
