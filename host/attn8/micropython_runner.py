"""Runs on MicroPython, not here: answers micropython.py with the device package, files in and files out.

micropython_runner.py run MODEL WINDOWS OUTPUTS      windows and outputs are raw bytes, one after the other
micropython_runner.py check FILES CODES              each file has a u32 length before it; one byte a code
micropython_runner.py selftest MODEL
"""

import gc
import sys
from array import array


def run(model_path, windows_path, outputs_path):
    """Runs every window of a file; one buffer for all windows, one for all outputs."""
    import attn8

    m = attn8.load(model_path)
    print(m)
    window = bytearray(m.n_steps * m.n_channels * (2 if m.input_type == "int16" else 1))
    out = array("b", bytes(m.n_outputs))
    with open(windows_path, "rb") as windows, open(outputs_path, "wb") as outputs:
        while windows.readinto(window) == len(window):
            outputs.write(m.run(window, out))


def check(files_path, codes_path):
    """Writes check_model's code of every file in a file of files."""
    from attn8.format import check_model

    head = bytearray(4)
    with open(files_path, "rb") as files, open(codes_path, "wb") as codes:
        while files.readinto(head) == 4:
            data = files.read(int.from_bytes(head, "little"))
            codes.write(bytes([check_model(data)]))
            gc.collect()


def selftest(model_path):
    """Runs the golden vectors of a file."""
    import attn8

    print(attn8.load(model_path).selftest())


if __name__ == "__main__":
    {"run": run, "check": check, "selftest": selftest}[sys.argv[1]](*sys.argv[2:])
