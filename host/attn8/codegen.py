"""Generates what repeats spec.py: the C header, the constants of the device package, the tables of FORMAT.md.

python -m attn8.codegen            rewrites the stale files of a source tree
python -m attn8.codegen --check    exits 1 and names them
"""

import struct
import sys
from pathlib import Path

from . import spec

TYPE_CODES = {"u8": 0, "u16": 1, "i16": 2, "i32": 3, "f32": 4}
FIRST_RUN_ERROR = 30  # smaller codes come from check_model
# Elements that the C checker reads as rows of one field.
_SCALARS = {
    "ZERO": spec.Field("zero", "u8", 0, 0, "RESERVED", "padding"),
    "THRESHOLD": spec.Field("threshold", "u8", 0, 100, "TASK", "smallest score"),
    "NUMBER": spec.Field("number", "f32", 0, 0, "NUMBER", "counts per unit"),
    "RELATIVE_BIAS": spec.Field(
        "relative_bias", "i32", -spec.LIMIT["MAX_RELATIVE_BIAS"], spec.LIMIT["MAX_RELATIVE_BIAS"], "BIAS", "B"
    ),
}
_POSITIVE_NORMAL = (0x00800000, 0x7F7FFFFF)  # the bits of such floats
_NOTE = "Generated from host/attn8/spec.py by `python -m attn8.codegen`; do not edit."


def _field_rows(fields):
    """Yields (offset, type code, error code, low, high) of each field."""
    offset = 0
    for f in fields:
        yield offset, TYPE_CODES[f.type], spec.ERROR_CODES[f.error], f.low, f.high
        offset += spec.TYPE_BYTES[f.type]


def _enums():
    """Yields (prefix, constants) of every named number that host, C and device share."""
    yield "TASK_", spec.TASKS
    yield "INPUT_", spec.INPUT_TYPES
    yield "CLAMP_", spec.CLAMPS
    yield "NORM_", spec.NORMS


def _numbers():
    """Yields (name, value, doc) of every constant, without the error codes."""
    yield "FORMAT_MAJOR", spec.FORMAT_MAJOR, "another major version is refused"
    yield "HEADER_BYTES", spec.HEADER_BYTES, "size of the header"
    yield "RECORD_HEADER_BYTES", spec.RECORD_HEADER_BYTES, "size of a record header"
    for c in spec.LIMITS:
        yield c.name, c.value, c.doc
    for prefix, constants in _enums():
        for c in constants:
            yield prefix + c.name, c.value, c.doc
    for r in spec.RECORDS:
        kind = "OP_" if r.code in spec.OP_BY_CODE else "RECORD_"
        yield kind + r.name, r.code, r.doc
    yield "FIRST_OP", spec.FIRST_OP, "smallest op code"
    yield "LAST_OP", spec.LAST_OP, "largest op code"


def _offsets():
    """Yields (name, offset) of every fixed field, and (name, size) of the fixed part of each record."""
    for r in spec.RECORDS:
        for name, offset in r.offsets().items():
            if not name.startswith("reserved"):
                yield f"{r.name}_{name.upper()}", offset
        yield f"{r.name}_FIXED_BYTES", r.fixed_bytes


def _rows():
    """Yields (name, fields) of the fixed part of each record, then of each row of an array."""
    for r in spec.RECORDS:
        yield r.name, r.fields
    for name, fields in spec.ROWS.items():
        yield name.upper() + "_ROW", fields


def c_header():
    """Returns the text of native_modules/core/a8_format.h."""
    out = [f"/* {_NOTE} */", "#ifndef A8_FORMAT_H", "#define A8_FORMAT_H", "", "#include <stdint.h>", ""]
    out += [f"#define A8_{name} {value} /* {doc} */" for name, value, doc in _numbers()]
    out += ["", "/* Offsets of the fixed fields in a payload, and the size of the fixed part. */"]
    out += [f"#define A8_AT_{name} {offset}" for name, offset in _offsets()]
    out += ["", "typedef enum {", "    A8_OK = 0,"]
    out += [f"    A8_ERR_{e.name} = -{e.code}, /* {e.what} */" for e in spec.ERRORS]
    out += ["} a8_err_t;", ""]
    out += _c_fields()
    table = spec.exp_table()
    last = table.index(0)
    out += ["", f"#define A8_EXP_LAST {last}u /* A8_EXP is 0 from here on */"]
    out += ["", "/* e^(-i/32) as floor(127*e^(-i/32) + 1/2). */", "static const uint8_t A8_EXP[A8_EXP_LAST + 1] = {"]
    out += ["    " + ", ".join(str(v) for v in table[i : min(i + 16, last + 1)]) + "," for i in range(0, last + 1, 16)]
    out += ["};", "", "#endif"]
    return "\n".join(out) + "\n"


def _c_fields():
    """Returns the lines of the field tables: two bytes a field, which point into a table of bounds."""
    sets = [*_rows(), *((name + "_ROW", (field,)) for name, field in _SCALARS.items())]
    lows, highs = (sorted({_bounds(f)[i] for _, fields in sets for f in fields}) for i in (0, 1))
    if len(lows) > 8 or len(highs) > 32:
        raise ValueError(f"bounds: got {len(lows)} lower and {len(highs)} upper, expected 8 and 32; widen a field")
    lows += [0] * (8 - len(lows))
    rows = {name: [_c_field(f, lows, highs) for f in fields] for name, fields in sets}
    every = []
    for fields in sorted(rows.values(), key=len, reverse=True):
        every += fields if _find(every, fields) is None else []
    out = ["/* Types of fields. */"]
    out += [f"#define A8_TYPE_{name.upper()} {code}" for name, code in TYPE_CODES.items()]
    out += ["", "/* Place of a field among the values of its record. */"]
    out += [f"#define A8_VALUE_{name} {i}" for name, i in _places()]
    out += [f"#define A8_MAX_VALUES {max(len(fields) for _, fields in sets)}"]
    out += ["", "/* What is read at once: {first of A8_FIELDS, bytes}. */"]
    out += [f"#define A8_SET_{name} {i}" for i, (name, _) in enumerate(sets)]
    places = ", ".join(f"{{{_find(every, rows[name])}, {spec.row_bytes(fields)}}}" for name, fields in sets)
    out += [f"static const uint8_t A8_SETS[][2] = {{{places}}};"]
    out += ["", "/* 8 lower bounds, then the upper ones. */"]
    out += [f"static const int32_t A8_BOUNDS[] = {{{', '.join(map(str, lows + highs))}}};"]
    out += ["", "/* {type | error << 3, lower bound | upper bound << 3} */"]
    return [*out, f"static const uint8_t A8_FIELDS[][2] = {{{', '.join(every)}}};"]


def _c_field(field, lows, highs):
    low, high = _bounds(field)
    kind = TYPE_CODES[field.type] | spec.ERROR_CODES[field.error] << 3
    return f"{{{kind}, {lows.index(low) | highs.index(high) << 3}}}"


def _find(every, fields):
    """Returns where a list holds all these in a row, or None."""
    n = len(fields)
    return next((i for i in range(len(every) - n + 1) if every[i : i + n] == fields), None)


def _bounds(field):
    """Returns (low, high) of a field; a float, unless it is 0, is compared as its bits."""
    return _POSITIVE_NORMAL if field.type == "f32" else (field.low, field.high)


def _places():
    """Yields (name, index among the record's fields) of every field that is not reserved."""
    for r in spec.RECORDS:
        for i, f in enumerate(r.fields):
            if not f.name.startswith("reserved"):
                yield f"{r.name}_{f.name.upper()}", i


def device_block():
    """Returns the generated lines of device/attn8/format.py: const() numbers, tables as bytes, no doc text.

    Names begin with an underscore where only that file uses them, so that const() leaves no trace in RAM.
    """
    out = [f"# {_NOTE}"]
    out += [f"_{name} = const({value})" for name, value, _ in _numbers()]
    out += [f"_ERR_{e.name} = const({e.code})" for e in spec.ERRORS if e.code < FIRST_RUN_ERROR]
    for name, fields in _rows():
        out += [f"_FIELDS_{name} = (", *(f"    {_packed(*row)!r}" for row in _field_rows(fields)), ")"]
    out.append("OP_NAMES = (")
    out += [f"    {r.name!r}," for r in spec.OPS]
    return "\n".join([*out, ")"]) + "\n"


def device_tables():
    """Returns the text of device/attn8/tables.py: what a loaded model needs when format.py is gone again."""
    out = ['"""The table of the arithmetic, and the error codes of load and run."""', "", f"# {_NOTE}"]
    out += [f"ERR_{e.name} = {e.code}" for e in spec.ERRORS if e.code >= FIRST_RUN_ERROR]
    table = bytes(spec.exp_table())
    out += ["EXP = (  # e^(-i/32) as floor(127*e^(-i/32) + 1/2)"]
    out += [f"    {table[i : i + 16]!r}" for i in range(0, 256, 16)]
    return "\n".join([*out, ")"]) + "\n"


def device_errors():
    """Returns the text of device/attn8/errors.py, which the device imports only when an error is raised."""
    actions = list(dict.fromkeys(e.action for e in spec.ERRORS))
    out = ['"""What each error code means and what to do about it; imported when an error is raised."""', ""]
    out += [f"# {_NOTE}", "ACTIONS = ("]
    out += [f'    "{action}",' for action in actions]
    out += [")", "TEXTS = {  # code: (name, what, index of ACTIONS)"]
    out += [f'    {e.code}: ("{e.name}", "{e.what}", {actions.index(e.action)}),' for e in spec.ERRORS]
    return "\n".join([*out, "}"]) + "\n"


def _packed(offset, type_code, error, low, high):
    """Packs a field for the device into 11 bytes: offset, type, error, low i32, high i32."""
    return struct.pack("<BBBii", offset, type_code, error, low, high)


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _range(f):
    return "" if f.low == f.high == 0 and f.error != "RESERVED" else f"{f.low}..{f.high}" if f.low != f.high else f.low


def _record_section(r):
    rows, offset = [], 0
    for f in r.fields:
        rows.append((offset, f.name, f.type, _range(f), f.error, f.doc))
        offset += spec.TYPE_BYTES[f.type]
    rows += [("then", a.name, f"{a.element}[{a.shape}]", "", "", a.doc) for a in r.arrays]
    return f"#### {r.code} {r.name}: {r.doc}\n\n" + _table(
        ("offset", "field", "type", "range", "error", "meaning"), rows
    )


def _row_section(name, fields):
    rows = [
        (o, f.name, f.type, _range(f), f.error, f.doc) for (o, *_), f in zip(_field_rows(fields), fields, strict=True)
    ]
    return f"#### row `{name}`, {spec.row_bytes(fields)} bytes\n\n" + _table(
        ("offset", "field", "type", "range", "error", "meaning"), rows
    )


def format_md_blocks():
    """Returns {block name: Markdown} of the generated parts of models/FORMAT.md."""
    sizes = {"4 bytes": 4, "8 bytes": 8, "u32": 4, **spec.TYPE_BYTES}
    header, offset = [], 0
    for f in spec.HEADER:
        header.append((offset, f.name, f.type, f.doc))
        offset += sizes[f.type]
    modes = [(name, c.name, c.value, c.doc) for name, values in _named_modes() for c in values]
    records = "\n".join([_record_section(r) for r in spec.RECORDS] + [_row_section(n, f) for n, f in spec.ROWS.items()])
    return {
        "header": _table(("offset", "field", "type", "meaning"), header),
        "records": records + "\n" + _table(("field", "name", "value", "meaning"), modes),
        "limits": _table(("limit", "value", "meaning"), [(c.name, c.value, c.doc) for c in spec.LIMITS]),
        "errors": _table(
            ("code", "name", "meaning", "what to do"), [(e.code, e.name, e.what, e.action) for e in spec.ERRORS]
        ),
    }


def _named_modes():
    return (
        ("task", spec.TASKS),
        ("input_type", spec.INPUT_TYPES),
        ("clamp", spec.CLAMPS),
        ("kind", spec.NORMS),
    )


def replace_block(text, begin, end, block):
    """Returns text with what stands between the lines ``begin`` and ``end`` replaced by block."""
    head, found, rest = text.partition(begin + "\n")
    _, found_end, tail = rest.partition(end + "\n")
    if not found or not found_end:
        raise ValueError(f"no line {begin!r} followed by {end!r}")
    return head + begin + "\n" + block + end + "\n" + tail


def outputs(root):
    """Returns {path: text as it should be} of every file with generated parts."""
    format_md = root / "models" / "FORMAT.md"
    text = format_md.read_text(encoding="utf-8")
    for name, block in format_md_blocks().items():
        text = replace_block(text, f"<!-- generated: {name} -->", "<!-- end -->", block)
    device = root / "device" / "attn8" / "format.py"
    return {
        format_md: text,
        root / "native_modules" / "core" / "a8_format.h": c_header(),
        device.with_name("errors.py"): device_errors(),
        device.with_name("tables.py"): device_tables(),
        device: replace_block(
            device.read_text(encoding="utf-8"), "# generated: begin", "# generated: end", device_block()
        ),
    }


def stale(root):
    """Returns the paths whose generated parts differ from spec.py."""
    return [p for p, text in outputs(root).items() if not p.exists() or p.read_text(encoding="utf-8") != text]


def main(arguments):
    """Runs in the root of a source tree."""
    root = Path.cwd()
    if not (root / "models" / "FORMAT.md").exists():
        print(f"{root}: got no models/FORMAT.md, expected the root of a source tree; go there first")
        return 2
    old = stale(root)
    if "--check" not in arguments:
        texts = outputs(root)
        for path in old:
            path.write_text(texts[path], encoding="utf-8")
    for path in old:
        print(path.relative_to(root))
    return 1 if old and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
