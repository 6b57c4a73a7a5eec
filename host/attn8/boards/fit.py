"""Whether a model fits a board, before anything is flashed: flash, heap, time, energy, each number with its source."""

from dataclasses import dataclass, replace

from .. import graph, profile, reference, stream
from ..errors import Attn8Error, ToolMissingError
from . import BoardError, bench, board, boards, energy, heap, table
from .deploy import LOG_BYTES

FITS, TIGHT, NOT = "fits", "tight", "does not fit"
_SAID = {FITS: FITS, TIGHT: "is tight", NOT: NOT}
TIGHT_SHARE = 0.8  # of a budget
MAX_EMULATED_MACS = 4_000_000  # of a window: half a minute
_SLOTS = 2
_LOWER_BOUND = "lower bound"
LOADING = "only while it loads"


class FitError(BoardError):
    """The question makes no sense for this board or model; the text says why."""


@dataclass(frozen=True)
class Use:
    """How a model is to be used on a board.

    Attributes:
        backend: of heap.BACKENDS; None: the fastest that stock firmware takes.
        every_ms: from one prediction to the next; None: as in training.    mah: of the battery; None: none.
        stream: samples as they come.    packed: that with packed weights.
        rom: the file lies in ROMFS or a frozen module.    portable: a native module of portable kernels.
    """

    backend: str | None = None
    every_ms: float | None = None
    mah: float | None = None
    stream: bool = False
    packed: bool = False
    rom: bool = False
    portable: bool = False


def fit(data, board_name, use=None, progress=None, counts=None):
    """Says whether a model fits a board.

    Args:
        data: bytes of a model file.    board_name: of the table.    use: Use.
        progress: called with (steps done, steps in all) while cycles are counted.
        counts: dict that keeps what bench found, for the next board of the same processor.

    Returns:
        dict for JSON: board, title, processor, firmware, backend, model, version, model_bytes, macs; budgets (list of
        dict: what, needed, budget, unit, share, verdict, how, source, parts); latency (ms, per, how, source); hop_ms;
        energy_uj, energy_source, battery (None or dict); verdict, reason, advice (list of sentences).

    Raises:
        FitError: if the board cannot run that back end.    BoardError: if there is no such board.
        attn8.ModelError: if the file is no valid model, or STREAM if it cannot run as a stream.
    """
    target, model = board(board_name), reference.parse(data)
    use = _settled(use or Use(), target)
    budgets = memory(data, target, use)
    fitting = all(b["verdict"] != NOT for b in budgets)
    hop_ms = _hop_ms(model, use)
    latency = _latency(data, model, target, use, hop_ms, progress, {} if counts is None else counts, fitting)
    if hop_ms is not None:
        budgets.append(_time(latency, hop_ms))
    g = model.graph
    found = {
        **{"board": target.name, "title": target.title, "processor": target.processor, "firmware": target.firmware},
        **{"backend": use.backend, "model": g.name, "version": g.version, "model_bytes": len(data)},
        **{"macs": profile.macs(data)[0], "budgets": budgets, "latency": latency, "hop_ms": hop_ms},
        **_energy(target, latency["ms"], hop_ms, use),
    }
    return {**found, **_verdict(data, target, use, budgets)}


def fit_all(data, use=None, progress=None):
    """Returns dict: boards (list of what ``fit`` returns), left_out (list of dict: board, reason), verdict (the best of
    them), reason. Arguments and errors are those of ``fit``.
    """
    rows, left_out, counts = [], [], {}
    for name in boards():
        try:
            rows.append(fit(data, name, use, progress, counts))
        except FitError as error:
            left_out.append({"board": name, "reason": str(error)})
    if not rows:
        raise FitError(left_out[0]["reason"])
    verdict = min((row["verdict"] for row in rows), key=(FITS, TIGHT, NOT).index)
    n = sum(row["verdict"] != NOT for row in rows)
    return {"boards": rows, "left_out": left_out, "verdict": verdict, "reason": f"it fits {n} of {len(rows)} boards"}


def _settled(use, target):
    """Returns the Use with a back end. Raises FitError if the board cannot run it so."""
    backend = use.backend or ("native" if target.arch else "python")
    if backend not in heap.BACKENDS:
        raise FitError(f"backend: got {backend!r}, expected one of {', '.join(heap.BACKENDS)}")
    if backend != "python" and not target.arch:
        raise FitError(
            f"{target.name}: stock {target.firmware} runs no {backend} code; expected --backend python, "
            "or another board: attn8 fit FILE --board all"
        )
    if use.portable and backend != "native":
        raise FitError(f"--portable is for native code, got the back end {backend}; leave it out")
    return replace(use, backend=backend, stream=use.stream or use.packed)


# Memory.


def memory(data, target, use):
    """Returns the budgets of flash, heap and of the largest piece of heap."""
    costs = table.read_costs()
    parts = _heap_parts(data, reference.parse(data), target, use, costs["heap"][use.backend], costs["natmod"])
    return [_flash(data, target, use, costs), _heap(target, parts), _piece(target, parts)]


def _flash(data, target, use, costs):
    block = target.figures["block_bytes"].value
    package = costs["package"][target.firmware]["flash_bytes"]
    parts = [_part("package", package.value, package.how, package.source)]
    if use.backend == "native":
        code = _natmod(target, use, costs["natmod"])
        parts.append(_part("native module", _blocks(code.value, block), code.how, code.source))
    slot = _blocks(len(data) + LOG_BYTES, block)
    parts.append(_part("model, two slots", _SLOTS * slot, "computed", f"the file and its log in blocks of {block}"))
    return _budget("flash", sum(p["bytes"] for p in parts), target.figures["files_bytes"], parts)


def _natmod(target, use, modules):
    portable = f"{target.arch} portable"
    return modules[portable if use.portable and portable in modules else target.arch]["flash_bytes"]


def _blocks(n, block):
    return -(-n // block) * block


def _heap_parts(data, model, target, use, cost, modules):
    """Returns the parts of the heap in the order in which they are taken."""
    own, imported = target.figures["heap_own_bytes"], cost["import_bytes"]
    parts = [_part(f"{target.firmware}'s own", own.value, own.how, own.source)]
    parts.append(_part("import attn8", imported.value, *_known(target, imported.how, imported.source)))
    if use.backend == "native":
        code = _natmod(target, use, modules)
        parts.append(_part("native code", heap.rounded(code.value), code.how, code.source, code.value))
    rows = heap.model_parts(data, use.backend, *_native_bytes(model, target, use))
    in_rom = use.rom and use.backend != "python"  # whose kernels copy weights from ROM
    for what, n, largest in rows:
        if not (what == "file" and in_rom):
            n += {"objects": rare_bytes(model, cost), "stream": cost["stream_bytes"].value}.get(what, 0)
            parts.append(_part(what, n, "computed", "counted object by object from the file", largest))
    arena_bytes = next(n for what, n, _ in rows if what == "arena")
    return [*parts, _loading(target, cost, 0 if in_rom else len(data), arena_bytes)]


def _known(target, how, source):
    """Returns (how, source) of what was measured on MicroPython."""
    same = target.firmware == "MicroPython"
    return (how, source) if same else ("assumed", f"as on MicroPython from .mpy files: {source}")


def _loading(target, cost, file_bytes, arena_bytes):
    """Returns the part that loading takes at most on top of what it leaves."""
    fixed, files, arenas = (cost[f"loading_{what}"] for what in ("bytes", "files", "arenas"))
    n = fixed.value + files.value * file_bytes + arenas.value * arena_bytes
    said = f"{fixed.value:,} bytes, {files.value} files and {arenas.value} arenas; {fixed.source}"
    return _part(LOADING, n, *_known(target, fixed.how, said))


def rare_bytes(model, cost):
    """Returns what the first load leaves besides the model: names, and the kernels of LayerNorm."""
    norm = any(isinstance(op, graph.LayerNorm) for op in model.graph.ops)
    return cost["first_load_bytes"].value + (cost["norm_bytes"].value if norm else 0)


def _native_bytes(model, target, use):
    """Returns the bytes of the arena, and of the state of a stream or None, of the native core on a board."""
    from .image import TOOLCHAINS

    kernels = "portable" if use.portable else TOOLCHAINS[target.core.name].arena
    state = None
    if use.stream:
        state = stream.state_bytes(model) + (stream.packed_bytes(model) if use.packed and kernels == "m0plus" else 0)
    return reference.plan(model, kernels)[1], state


def _heap(target, parts):
    """The heap that is needed at once: what stays, with the larger of what loading and a stream add."""
    adds = {p["what"]: p["bytes"] for p in parts if p["what"] in (LOADING, "stream")}
    needed = sum(p["bytes"] for p in parts) - (min(adds.values()) if len(adds) == 2 else 0)
    held = sum(p["bytes"] for p in parts if p["what"] != LOADING)
    return {**_budget("heap", needed, target.figures["heap_bytes"], parts), "held_bytes": held}


def _piece(target, parts):
    """The largest piece, of which one must be free."""
    largest = max(parts, key=lambda p: p.get("largest_bytes", 0))
    part = _part(largest["what"], largest["largest_bytes"], largest["how"], largest["source"])
    return _budget("largest piece", part["bytes"], target.figures["largest_bytes"], [part])


def _part(what, n, how, source, largest=None):
    return {"what": what, "bytes": n, "how": how, "source": source, **({"largest_bytes": largest} if largest else {})}


def _budget(what, needed, figure, parts):
    share = needed / figure.value
    weakest = max((p["how"] for p in parts), key=table.HOWS.index)
    return {
        **{"what": what, "needed": needed, "budget": figure.value, "unit": "bytes", "share": share},
        **{"verdict": _judged(share), "how": weakest, "budget_how": figure.how, "budget_source": figure.source},
        "parts": parts,
    }


def _judged(share):
    return NOT if share > 1 else TIGHT if share > TIGHT_SHARE else FITS


# Time.


def _hop_ms(model, use):
    """Returns the milliseconds from one prediction to the next, None where the file does not tell."""
    if use.every_ms is not None:
        if not 0 < use.every_ms < 1e9:
            raise FitError(f"--every: got {use.every_ms:g} ms, expected more than 0")
        return use.every_ms
    g = model.graph
    return 1000 * g.hop / g.sample_rate_hz if g.sample_rate_hz > 0 else None


def _time(latency, hop_ms):
    share = latency["ms"] / hop_ms
    return {
        **{"what": "time", "needed": latency["ms"], "budget": hop_ms, "unit": "ms", "share": share},
        **{"verdict": _judged(share), "how": latency["how"], "budget_how": "computed"},
        **{"budget_source": "from one prediction to the next", "parts": []},
    }


def _latency(data, model, target, use, hop_ms, progress, counts, worth_it):
    """Returns dict: ms, per ("window" or "hop"), how ("emulated", "estimate" or "lower bound"), source."""
    hop = _hop_samples(model, hop_ms)
    per = "hop" if use.stream else "window"
    found = None
    if use.backend == "native" and not use.portable and worth_it:
        found = _counted(data, model, target, use, hop, progress, counts)
    ms, how, source = found or _from_macs(data, model, target, use, hop)
    return {"ms": ms, "per": per, "how": how, "source": source}


def _hop_samples(model, hop_ms):
    rate_hz = model.graph.sample_rate_hz
    return hop_ms * rate_hz / 1000 if hop_ms is not None and rate_hz > 0 else model.graph.hop


def _counted(data, model, target, use, hop, progress, counts):
    """Returns (ms, how, source) from an emulator, None where none is at hand or it would take long."""
    core, unit = target.core, target.unit
    if core.slow or model.macs > MAX_EMULATED_MACS:
        return None
    if core.name not in counts:
        try:
            counts[core.name] = bench(data, target.name, 1, progress)
        except (ToolMissingError, BoardError) as error:
            counts[core.name] = error
    found = counts[core.name]
    if isinstance(found, Attn8Error):
        return None
    count = found[unit]
    if use.stream:
        tokens = found["stream"]
        packed = tokens[f"packed_token_{unit}"] if use.packed else None
        count = (packed or tokens[f"token_{unit}"]) * hop / tokens["token_samples"]
    how = "emulated" if unit == "cycles" else _LOWER_BOUND
    said = found["source"] if unit == "cycles" else f"{found['source']}; at most one a cycle"
    return 1000 * count / target.clock_hz, how, said


def _from_macs(data, model, target, use, hop):
    """Returns (ms, how, source) from cycles a multiply-accumulate that were measured, or that it takes at least."""
    from ..device.repl import CYCLES_PER_MAC

    macs = profile.macs(data)[0] * (hop / model.graph.n_steps if use.stream else 1)
    name = use.backend
    if name == "native":
        name += f" {target.arch}" + (" portable" if use.portable else "")
    if name in CYCLES_PER_MAC:
        cycles, where = CYCLES_PER_MAC[name], "MicroPython 1.28.0 on the emulated RP2040"
        other = "" if target.core.name == "m0plus" else "; on this processor it was not measured"
        return (
            1000 * macs * cycles / target.clock_hz,
            "estimate",
            f"{cycles:g} cycles a multiply-accumulate, {where}{other}",
        )
    said = f"{target.core.bound:g} {target.unit} a multiply-accumulate, at most one a cycle: {target.core.reason}"
    return 1000 * macs * target.core.bound / target.clock_hz, _LOWER_BOUND, said


# Energy.


def _energy(target, ms, hop_ms, use):
    """Returns dict: energy_uj, energy_source, battery (None, or dict: mah, days, awake_days, average_ma, source)."""
    uj, said = energy.window_energy_uj(target, ms)
    battery = None
    if use.mah is not None and hop_ms is not None and ms <= hop_ms:
        days, source = energy.battery_days(target, ms, hop_ms, use.mah)
        awake, _ = energy.battery_days(target, ms, hop_ms, use.mah, None)
        mean = energy.average_ma(target, ms, hop_ms)
        battery = {"mah": use.mah, "days": days, "awake_days": awake, "average_ma": mean, "source": source}
    return {"energy_uj": uj, "energy_source": said, "battery": battery}


# The verdict.


def _verdict(data, target, use, budgets):
    """Returns dict: verdict, reason, advice."""
    worst = max(budgets, key=lambda b: b["share"])
    verdict = max((b["verdict"] for b in budgets), key=(FITS, TIGHT, NOT).index)
    reason = f"{worst['what']} {_amount(worst, 'needed')} of {_amount(worst, 'budget')}, {_percent(worst['share'])}"
    if verdict == NOT:
        reason += ": there is not as much"
    elif any(b["how"] == _LOWER_BOUND for b in budgets):
        reason += "; of the time only a lower bound is known"
    if verdict == FITS:
        return {"verdict": verdict, "reason": f"the tightest budget is {reason}", "advice": []}
    short = [b["what"] for b in budgets if b["verdict"] == verdict]
    return {"verdict": verdict, "reason": reason, "advice": _advice(data, target, use, short)}


def _advice(data, target, use, short):
    """Returns sentences that say what can be done about the budgets that are short."""
    said = []
    if {"heap", "largest piece"} & {*short}:
        said += [f"{how}: the memory is enough then" for how, other in _changes(use) if _has_room(data, target, other)]
    if "time" in short:
        said += [f"{how}: that may be fast enough" for how in _faster(target, use)]
    if {"flash", "heap", "largest piece"} & {*short}:
        names = [b.name for b in boards().values() if b.name != target.name and _has_room(data, b, Use())]
        said += [f"another board has the room: {', '.join(names[:3])}"] if names else []
    return [*said, "a smaller model: fewer or narrower layers, a shorter window, a larger stride"]


def _changes(use):
    """Returns (what to change, Use) in the order in which they cost least."""
    changes = [("leave out --packed", replace(use, packed=False))] if use.packed else []
    if use.backend == "native" and not use.portable:
        changes.append(("build the native module with --portable (slower)", replace(use, portable=True, packed=False)))
    if use.backend != "python" and not use.rom:
        changes.append(("put the file into ROMFS or a frozen module (--rom)", replace(use, rom=True)))
    if use.backend != "native":
        changes.append(("install the native module", replace(use, backend="native")))
    return changes


def _has_room(data, target, use):
    """Says whether the memory of a board is enough, with nothing tight."""
    try:
        settled = _settled(use, target)
        return all(b["verdict"] == FITS for b in memory(data, target, settled))
    except FitError:
        return False


def _faster(target, use):
    if use.backend != "native" and target.arch:
        return ["install the native module (--backend native)"]
    return [*(() if use.stream else ["a causal model as a stream (--stream)"]), "a longer --every"]


# For people.


def _percent(share):
    return f"{100 * share:.0f} %" if share < 100 else f"{share:,.0f} times"


def _amount(budget, key):
    value = budget[key]
    return f"{value:,} bytes" if budget["unit"] == "bytes" else f"{_ms(value)}"


def _ms(value):
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def render(found):
    """Returns a rich renderable of what ``fit`` returned."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False)
    for name in ("", "needed", "of", "share", "known", "budget known"):
        rows.add_column(name, justify="right" if name in ("needed", "of", "share") else "left")
    for b in found["budgets"]:
        numbers = _amount(b, "needed"), _amount(b, "budget"), _percent(b["share"])
        rows.add_row(b["what"], *numbers, b["how"], b["budget_how"], style="bold")
        for part in b["parts"] if len(b["parts"]) > 1 else ():
            rows.add_row(f"  {part['what']}", f"{part['bytes']:,}", "", "", part["how"], "")
        if "held_bytes" in b:
            rows.add_row("  all that stays", f"{b['held_bytes']:,}", "", "", b["how"], "")
    name = f"'{found['model']}'" + (f" v{found['version']}" if found["version"] else "")
    head = f"{found['board']}: {name} as {found['backend']} code {_SAID[found['verdict']]}: {found['reason']}"
    return Group(Text(head, style="bold"), "", rows, "", *(Text(line) for line in _lines(found)))


def _lines(found):
    latency, battery = found["latency"], found["battery"]
    at_least = "at least " if latency["how"] == _LOWER_BOUND else ""
    lines = [f"time    {at_least}{_ms(latency['ms'])} a {latency['per']}, {latency['how']}: {latency['source']}"]
    if found["hop_ms"] is None:
        lines.append("        the file does not tell its sample rate: --every MS says how often it is to run")
    lines.append(f"energy  {at_least}{found['energy_uj'] / 1000:,.3g} mJ a {latency['per']}, {found['energy_source']}")
    if battery:
        at_most = "at most " if at_least else ""
        days, awake = (f"{battery[key]:,.1f}" for key in ("days", "awake_days"))
        lines.append(
            f"battery {at_most}{days} days of {battery['mah']:g} mAh, {awake} without sleep, {battery['source']}"
        )
    return [*lines, *(f"do      {sentence}" for sentence in found["advice"])]


def _digits_ms(ms):
    """Returns three digits or all in front of the point, never a power of ten."""
    return f"{ms:,.0f}" if ms >= 999.5 else f"{ms:.3g}"


def render_all(found):
    """Returns a rich table with a line for each board."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False)
    for name in ("board", "code", "verdict", "flash", "heap", "piece", "ms", "known", "tightest"):
        rows.add_column(name, justify="right" if name in ("flash", "heap", "piece", "ms") else "left")
    for f in found["boards"]:
        shares = [_percent(b["share"]) for b in f["budgets"][:3]]
        ms = f"{'>= ' if f['latency']['how'] == _LOWER_BOUND else ''}{_digits_ms(f['latency']['ms'])}"
        worst = max(f["budgets"], key=lambda b: b["share"])["what"]
        rows.add_row(f["board"], f["backend"], f["verdict"], *shares, ms, f["latency"]["how"], worst)
    return rows
