"""What attn8 fit says about the heap, against a board: python tests/native/fit_heap.py socket://127.0.0.1:7190

The back end is the one that `attn8 install` left there, with a native module or with --pure; without
attn8/_viper.mpy it is bytecode.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attn8 import reference, stream
from attn8.boards import fit, heap, table
from attn8.config import shipped_model_path
from models import Shape, build_model

CAUSAL = Shape(
    **{"n_steps": 64, "n_channels": 6, "stride": 4, "kernel": 5, "pad_left": 2, "heads": 4, "head_size": 8},
    **{"ff": 64, "left": 15, "layers": 2},
).causal(32)
LARGE = Shape(
    **{"n_steps": 96, "n_channels": 3, "stride": 2, "kernel": 6, "pad_left": 2, "pad_right": 2, "heads": 4},
    **{"head_size": 12, "ff": 96, "left": 12, "right": 12, "layers": 2, "norm": "layer", "activation": "gelu"},
    n_outputs=10,
)
SOURCE = Path(__file__).with_name("board_heap.py").read_text(encoding="utf-8")
SHIFTS = (0, 1000, 2500)


def models():
    """Returns {file name: bytes}."""
    shipped = shipped_model_path().read_bytes()
    return {"shipped.a8": shipped, "causal.a8": build_model(CAUSAL, 3), "large.a8": build_model(LARGE, 4)}


def predicted(data, backend, kernels, code_bytes):
    """Returns (import, load, stream or None) bytes as attn8 fit counts them."""
    model, cost = reference.parse(data), table.read_costs()["heap"][backend]
    state_bytes = stream.state_bytes(model) if model.graph.hop == 32 and model.graph.n_steps == 64 else None
    parts = heap.model_parts(data, backend, reference.plan(model, kernels)[1], state_bytes)
    sizes = {what: n for what, n, _ in parts}
    streamed = sizes.pop("stream", None)
    load = sum(sizes.values()) + fit.rare_bytes(model, cost)
    imported = cost["import_bytes"].value + (heap.rounded(code_bytes) if backend == "native" else 0)
    return imported, load, None if streamed is None else streamed + cost["stream_bytes"].value


def read(output):
    """Returns (back end, import, load, stream or None) of what board_heap.measure printed."""
    words = next(line for line in output.splitlines() if line.startswith("heap ")).split()
    return words[1], int(words[2]), int(words[3]), int(words[4]) if words[5] == "True" else None


def least(ask, expected):
    """Returns (back end, import, load, stream or None) with the least garbage.

    Args:
        ask: returns what ``read`` does for a layout of the heap.    expected: of import and load; near it, it ends.
    """
    rows = []
    for shift in SHIFTS:
        rows.append(ask(shift))
        if sum(rows[-1][1:3]) <= expected / 0.98:
            break
    return min(rows, key=lambda row: sum(row[1:3]))


def main(port):
    """Prints a line a model. Returns 0 if each prediction is at most 10 % too high and 2 % too low."""
    from attn8.boards.link import open_link

    worst = []
    for name, data in models().items():
        with open_link(port) as link:
            link.put(data, f"/{name}")
            code = link.stat("/lib/_attn8.mpy")
            backend = link.eval("attn8.backend", 60, "import attn8")
            said = predicted(data, backend, "m0plus", code[1] if code else 0)
            _, *measured = least(partial(_asked, link, name), sum(said[:2]))
        worst.append(100 * (sum(said[:2]) / sum(measured[:2]) - 1))
        print(
            f"{backend} {name}: predicted {said}, measured {measured}, import and load {worst[-1]:+.1f} %", flush=True
        )
    return 0 if all(-2 <= off <= 10 for off in worst) else 1


def _asked(link, name, shift):
    link.restart()
    return read(link.exec(f"{SOURCE}\nmeasure({name!r}, {name == 'causal.a8'}, {shift})", 300))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
