"""With A8_IN_RAM every kernel lies in a section that the Pico SDK's linker scripts put into RAM."""

import re
import subprocess

import pytest

from tools import CORE, ROOT, core_sources, need, run

BARE = ROOT / "native_modules" / "bare"
COMPILE = ("-std=c99", "-ffunction-sections", "-ffreestanding", "-I", BARE, "-c")
CPUS = {  # of an RP2040 and an RP2350: prefix of the compiler, its flags
    "cortex-m0plus": ("arm-none-eabi-", "-mcpu=cortex-m0plus", "-mthumb"),
    "cortex-m33": ("arm-none-eabi-", "-mcpu=cortex-m33", "-mthumb"),
    "rv32": ("riscv64-unknown-elf-", "-march=rv32imac_zicsr", "-mabi=ilp32"),
}
KERNEL_FILES = [p for p in sorted(CORE.glob("a8_*.[cS]")) if re.search(r"_kernels|_m0plus|_armdsp|_rv32", p.name)]
PLANNER = {"a8_tile_tokens", "a8_attention_tile"}  # asked once a call

# As in the SDK's scripts: code in flash, .time_critical* in RAM.
SCRIPT = """
MEMORY { flash (rx) : ORIGIN = 0x10000000, LENGTH = 2M  ram (rwx) : ORIGIN = 0x20000000, LENGTH = 256K }
ENTRY(a8_run)
SECTIONS {
    .text : { *(.text* .rodata*) } > flash
    .data : { *(.time_critical*) *(.data*) } > ram AT > flash
    /DISCARD/ : { *(.ARM.* .comment .note*) }
}
"""


def sections(path, cpu, folder, *flags):
    """Compiles a file; returns {function: section}."""
    prefix, *machine = CPUS[cpu]
    run(need(f"{prefix}gcc"), *machine, *COMPILE, *flags, path, "-o", folder / f"{path.stem}.o")
    rows = run(need(f"{prefix}objdump"), "-t", folder / f"{path.stem}.o").splitlines()
    return {row.split()[-1]: row.split()[-3] for row in rows if re.search(r"\sF\s", row)}


@pytest.mark.parametrize("optimization", ["-O2", "-Os"])
@pytest.mark.parametrize("cpu", CPUS)
def test_every_kernel_goes_to_ram(cpu, optimization, tmp_path):
    found = {}
    for path in KERNEL_FILES:
        found |= sections(path, cpu, tmp_path, optimization, "-DA8_IN_RAM")
    assert {"a8_conv1d_s8", "a8_windowed_attention_s8", "a8_layer_norm_s8", "a8_mean_pool_s8"} <= set(found)
    assert {name for name, section in found.items() if not section.startswith(".time_critical.")} <= PLANNER


def test_without_it_none_does(tmp_path):
    for path in KERNEL_FILES:
        assert all(section.startswith(".text") for section in sections(path, "cortex-m0plus", tmp_path, "-O2").values())


def test_kernels_in_ram_link_with_the_rest_in_flash(tmp_path):
    script, program = tmp_path / "x.ld", tmp_path / "x.elf"
    script.write_text(SCRIPT)
    for path in {*KERNEL_FILES, *core_sources()}:
        sections(path, "cortex-m0plus", tmp_path, "-O2", "-DA8_IN_RAM")
    prefix, *machine = CPUS["cortex-m0plus"]
    run(f"{prefix}gcc", *machine, *COMPILE, BARE / "support.c", "-o", tmp_path / "support.o")
    objects = sorted(tmp_path.glob("*.o"))
    run(f"{prefix}gcc", *machine, "-nostdlib", "-T", script, *objects, "-lgcc", "-o", program)
    listed = run("arm-none-eabi-nm", program)
    address = {name: int(at, 16) for at, name in re.findall(r"^(\w+) [Tt] (\w+)$", listed, re.M)}
    assert address["a8_run"] < 0x20000000 <= min(address["a8_linear_s8"], address["a8_m0plus_rows"])


PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(firmware C)
add_library(usermod INTERFACE)
include({module})
get_target_property(definitions usermod_attn8 INTERFACE_COMPILE_DEFINITIONS)
get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
message("attn8: ${{definitions}} in ${{languages}}")
"""


@pytest.mark.parametrize("board, in_ram", [("-DPICO_BOARD=pico", True), ("-DIDF_TARGET=esp32c3", False)])
def test_only_rp2_firmware_sets_it(board, in_ram, tmp_path):
    module = ROOT / "native_modules" / "usermod" / "micropython.cmake"
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(module=module))
    command = (need("cmake"), "-S", tmp_path, "-B", tmp_path / "b", board)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = re.search(r"attn8: (\S+) in (\S+)", done.stderr)
    assert ("A8_IN_RAM" in said[1]) == in_ram
    assert "ASM" in said[2].split(";")
