"""xtensa-lx106-elf-gcc as a compiler of windowed code, as the ESP32 and ESP32-S3 run it.

    python -m attn8.boards.xtensa_windowed -O2 -c core.c -o core.o        what Espressif's gcc is called with

Debian's compiler writes right assembly for -mabi=windowed, but its assembler knows only what an ESP8266 has.
Here those instructions of the ESP32 that occur become bytes: entry, retw, callx8, call8 and what a8_xtensa_mac16.S uses
of MAC16, loops, clamps and max. For divisions the compiler
calls libgcc, whose functions expect no windows: each file gets functions of its own around the ESP32's divider, which
Espressif's compiler would take in place. All but `-c` goes to the compiler unchanged.
"""

import re
import subprocess
import sys

GCC, AS, ABI = "xtensa-lx106-elf-gcc", "xtensa-lx106-elf-as", "-mabi=windowed"
DIVISIONS = {"__udivsi3": 0xC22230, "__divsi3": 0xD22230, "__umodsi3": 0xE22230, "__modsi3": 0xF22230}  # a2, a2, a3
MISSING = re.compile(
    r"^[ \t]*(entry|retw\.n|retw|callx8|call8|loopnez|clamps|max|ldinc|mula\.d[ad]\.(?:ll|hh)(?:\.ldinc)?"
    r"|[rw]sr\.acc(?:lo|hi))\b[ \t]*([^#;/\n]*).*$",
    re.MULTILINE,
)
ACCUMULATORS = {"acclo": 16, "acchi": 17}


def register(name):
    """Returns the number of a register: a0..a15, or sp."""
    return 1 if name == "sp" else int(name.removeprefix("a"))


def encoded(word, n_bytes=3):
    """Returns the directive that places an instruction word."""
    return "\t.byte " + ", ".join(f"{b:#04x}" for b in word.to_bytes(n_bytes, "little"))


def entry(arguments):
    """Returns `entry as, bytes`, the frame in units of 8 bytes."""
    name, size = (a.strip() for a in arguments.split(","))
    frame, rest = divmod(int(size, 0), 8)
    if rest or not 0 <= frame < 1 << 12:
        raise ValueError(f"entry of {size} bytes; expected a multiple of 8 below 32768")
    return encoded(0x36 | register(name) << 8 | frame << 12)


def callx8(arguments):
    """Returns `callx8 as`."""
    return encoded(0xE0 | register(arguments.strip()) << 8)


def call8(number, arguments):
    """Returns a call of a symbol through a literal, which any linker can place; a8 is the callee's in any case."""
    label = f".Lcall8_{number}"
    return f"\t.literal {label}, {arguments.strip()}\n\tl32r a8, {label}\n{callx8('a8')}"


def loopnez(arguments):
    """Returns `loopnez as, label`: the bytes from behind it to the label follow as the assembler counts them."""
    name, label = (a.strip() for a in arguments.split(","))
    return f"\t.byte 0x76, {0x90 | register(name):#04x}, {label} - . - 2"


def clamps(arguments):
    """Returns `clamps ar, as, bit`."""
    to, of, bit = (a.strip() for a in arguments.split(","))
    return encoded(0x330000 | register(to) << 12 | register(of) << 8 | (int(bit) - 7) << 4)


def maximum(arguments):
    """Returns `max ar, as, at`."""
    to, a, b = (register(a.strip()) for a in arguments.split(","))
    return encoded(0x530000 | to << 12 | a << 8 | b << 4)


def accumulator(name, arguments):
    """Returns rsr.acclo, rsr.acchi, wsr.acclo or wsr.acchi."""
    write, which = name[0] == "w", ACCUMULATORS[name[4:]]
    return encoded((0x130000 if write else 0x030000) | which << 8 | register(arguments.strip()) << 4)


def mac16(name, arguments):
    """Returns ldinc, mula.dd.*.ldinc, mula.da.*.ldinc or mula.da.*; m0..m3 are the registers of MAC16."""
    of = [int(a.strip()[1:]) for a in arguments.split(",")]
    if name == "ldinc":
        return encoded(0x800004 | of[0] << 12 | of[1] << 8)
    half, loads = 0xB0000 if ".hh" in name else 0x80000, name.endswith(".ldinc")
    load = (of[0] << 12 | of[1] << 8) if loads else 0
    x, y = of[2:] if loads else of
    if ".dd" in name:
        return encoded((0x000004 if loads else 0x200004) | half | load | x << 14 | (y - 2) << 6)
    return encoded((0x400004 if loads else 0x600004) | half | load | x << 14 | y << 4)


def with_divisions(text):
    """Returns assembly in which the divisions that it calls are functions of its own."""
    for name, word in DIVISIONS.items():
        if re.search(rf"\b{name}\b", text):
            text = re.sub(rf"^\s*\.global\s+{name}$|(?<={name})@PLT", "", text, flags=re.MULTILINE)
            text += f"\n\t.text\n\t.align 4\n{name}:\n\tentry sp, 32\n{encoded(word)}\n\tretw.n\n"
    return text


def translated(text):
    """Returns assembly that Debian's assembler accepts."""
    text = with_divisions(text)
    numbers = iter(range(len(text)))

    def one(match):
        name, arguments = match.groups()
        if name.startswith("retw"):
            return encoded(0xF01D, 2)
        if name == "call8":
            return call8(next(numbers), arguments)
        if name.startswith(("mula", "ldinc")):
            return mac16(name, arguments)
        if ".acc" in name:
            return accumulator(name, arguments)
        return {"entry": entry, "callx8": callx8, "loopnez": loopnez, "clamps": clamps, "max": maximum}[name](arguments)

    return MISSING.sub(one, text)


def compile_one(arguments):
    """Compiles or assembles one file as `gcc -c` would; returns the exit status."""
    rest = [a for i, a in enumerate(arguments) if a not in ("-c", "-o") and arguments[max(0, i - 1)] != "-o"]
    target = arguments[arguments.index("-o") + 1]
    stop = "-E" if any(a.endswith(".S") for a in rest) else "-S"
    done = subprocess.run([GCC, ABI, *rest, stop, "-o", "-"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    return subprocess.run([AS, "-o", target, "-"], input=translated(done.stdout), text=True, check=False).returncode


def main(arguments):
    """Returns the exit status of the compiler."""
    if "-c" in arguments:
        return compile_one(arguments)
    return subprocess.run([GCC, ABI, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
