"""Files of a data folder: which there are, and what their names and manifest.csv say of them."""

import bisect
import csv
import difflib
import itertools
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .. import atomic
from ..errors import ConfigError, DataError
from .groups import first_part, merge, normal_form
from .recordings import MAX_CLASSES, MAX_HINTS, MAX_TEXT_BYTES, FileFault, fits, quoted, sentence, shown

SUFFIXES = {"csv": (".csv", ".tsv"), "wav": (".wav", ".wave")}
MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("file", "label", "group", "split")
MAX_FILES = 20_000
MAX_ENTRIES = 500_000  # of all folders, whatever they are
MAX_FILE_BYTES = 256 << 20
MAX_MANIFEST_BYTES = 16 << 20
PARTS = ("train", "training", "test", "testing", "val", "valid", "validation")  # no names of classes
RARE = 0.2  # share of the recordings of the most common label
FIELDS = ("{label}", "{group}")


@dataclass
class Entry:
    """One file to read.

    Fields:
        path: Path to open.    name: its path in the folder, with "/", safe to print.
        stem: the same as it is on disk, without extension.
        label, group, part: texts, "" where not known.
    """

    path: Path
    name: str
    stem: str
    label: str = ""
    group: str = ""
    part: str = ""


# ---- which files there are -----------------------------------------------------------------------------------------


def folder_kind(path):
    """Whether a folder holds CSV or WAV recordings: "csv" or "wav".

    Raises:
        DataError: if it holds none or both, or is no folder.
    """
    found = list_files(path)
    kinds = [kind for kind in SUFFIXES if _of_kind(found, kind)]
    if len(kinds) == 1:
        return kinds[0]
    expected = "recordings of one kind: .csv (or .tsv) or .wav"
    if not kinds:
        advice = "put one recording a file into a folder with the name of its class"
        raise DataError(sentence(shown(str(path), 200), "", "no recordings", expected, advice))
    got = " and ".join(f"{len(_of_kind(found, kind))} {kind.upper()} files" for kind in kinds)
    raise DataError(sentence(shown(str(path), 200), "", got, expected, "move one kind to another folder"))


def list_files(path):
    """Files of a folder and of the folders in it, but hidden ones: relative paths with "/", sorted.

    Links to folders are not followed.

    Raises:
        DataError: if there are too many, or the folder cannot be read.
    """
    found, pending, seen = [], [""], 0
    while pending:
        relative = pending.pop()
        for name, is_folder in _entries(path, relative):
            seen += 1
            if seen > MAX_ENTRIES or len(found) > MAX_FILES:
                raise _too_many(path)
            if not name.startswith(".") and name != "__MACOSX":
                (pending if is_folder else found).append(relative + name + "/" * is_folder)
    return sorted(found)


def _too_many(path):
    where = shown(str(path), 200)
    return DataError(sentence(where, "", f"more than {MAX_FILES} files", "fewer", "split it into several folders"))


def _entries(path, relative):
    try:
        with os.scandir(os.path.join(path, relative) if relative else path) as entries:
            first = itertools.islice(entries, MAX_ENTRIES)
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in first]
    except (OSError, ValueError) as error:
        where = shown(os.path.join(str(path), relative), 200)
        reason = shown(getattr(error, "strerror", None) or str(error))
        raise DataError(sentence(where, "", f"no access ({reason})", "a folder", "check the path")) from None


def _of_kind(found, kind):
    return [name for name in found if name.lower().endswith(SUFFIXES[kind]) and name != MANIFEST]


def read_bytes(path, most=MAX_FILE_BYTES):
    """Bytes of a regular file; anything else is not opened, and a device or pipe never waited for.

    Raises:
        FileFault: if it cannot be read or is too large.
    """
    try:
        return atomic.read_bytes(path, most)
    except ValueError as error:
        expected = f"a regular file of at most {most} bytes"
        raise FileFault("unreadable", "", shown(str(error)), expected, "split or remove it") from None
    except OSError as error:
        reason = shown(error.strerror or str(error))
        raise FileFault("unreadable", "", f"no access ({reason})", "a file to read", "check it") from None


# ---- what they are called ------------------------------------------------------------------------------------------


def entries_of(folder, kind, data_config, reading, need_labels=True):
    """Files to read, with label, group and part, sorted by name.

    Args:
        folder: path.    kind: "csv" or "wav".    data_config: attn8.config.DataConfig.
        reading: recordings.Reading; takes the faults, and the number of files.
        need_labels: leave out files without a label or with one that is not in ``data.labels``.
    """
    found = list_files(folder)
    listed = read_manifest(folder, reading) if MANIFEST in found else None
    if listed is None:
        entries = [_entry(folder, name) for name in _of_kind(found, kind)]
    else:
        entries = _manifest_entries(folder, kind, found, listed, reading)
    reading.n_files += len(entries)
    entries = [entry for entry in entries if _is_inside(folder, entry, reading)]
    entries = _name(entries, data_config.pattern, reading, need_labels)
    entries = [entry for entry in entries if not need_labels or _label_is_good(entry, data_config, reading)]
    groups, note = merge([entry.group for entry in entries])
    for entry, group in zip(entries, groups, strict=True):
        entry.group = group
    reading.notes += [note] if note and need_labels else []
    return entries


def _entry(folder, name):
    return Entry(Path(folder, name), shown(name, 200), str(PurePosixPath(name).with_suffix("")))


def _is_inside(folder, entry, reading):
    """Links may lead to other files of the folder, never out of it: data that were unpacked from somewhere could."""
    if Path(os.path.realpath(entry.path)).is_relative_to(os.path.realpath(folder)):
        return True
    reading.add("unreadable", entry.name, "", "a link out of the folder", "a file", "copy the file to this place")
    return False


def _name(entries, pattern, reading, need_labels):
    """Fill in label and group of the entries from their names, where the manifest does not give them."""
    if pattern == "auto":
        guessed = [entry for entry in entries if not entry.group]
        for entry in entries:
            label, group = auto_names(entry.stem)
            entry.label, entry.group = entry.label or label, entry.group or group
        own = guessed if need_labels and _tell_no_group(entries) else []
    else:
        entries = _name_by_pattern(entries, pattern, reading, need_labels)
        own = [entry for entry in entries if not entry.group]
    if own and need_labels:
        reading.notes.append(_own_groups_note(own))
    for entry in own:
        entry.group = entry.stem
    return entries


def auto_names(stem):
    """Label and group of a path: first folder; second folder, else the file name up to the first "_" or "-"."""
    *folders, name = stem.split("/")
    return folders[0] if folders else "", folders[1] if len(folders) > 1 else first_part(name)


def _tell_no_group(entries):
    """Whether all groups that names tell are one, or each is but its label again, as in wave/wave_01."""
    groups = {normal_form(entry.group) for entry in entries}
    return len(entries) > 1 and (len(groups) == 1 or all(_is_label_again(entry) for entry in entries))


def _is_label_again(entry):
    names = entry.label, first_part(entry.label.replace(" ", "_"))
    return normal_form(entry.group) in map(normal_form, names)


def _own_groups_note(own):
    labels = sorted({shown(entry.label) for entry in own if entry.label})
    names = ", ".join(labels[:5]) + ("" if len(labels) <= 5 else f" and {len(labels) - 5} more")
    groups = {normal_form(entry.group) for entry in own}
    but = f" but {quoted(own[0].group)}" if len(groups) == 1 and own[0].group else ""
    return (
        f"{names or 'all files'}: the file names tell no group{but}, so each recording is a group of its own; where "
        "one person or machine made several of them, the accuracy is too high: name the files as in anna_01, "
        "ben_01, or give data.pattern or manifest.csv"
    )


def _name_by_pattern(entries, pattern, reading, need_labels):
    template = Template(pattern)
    if need_labels and not template.has_label and not all(entry.label for entry in entries):
        raise _pattern_error(pattern, "no {label}", "it, as in {label}/{group}_*")
    kept = []
    for entry in entries:
        fields = template.match(entry.stem)
        if fields is not None:
            entry.label, entry.group = entry.label or fields.get("label", ""), entry.group or fields.get("group", "")
        elif need_labels and not entry.label:
            advice = "rename it or change data.pattern"
            reading.add("label", entry.name, "", "another name", f"data.pattern = {quoted(pattern)}", advice)
            continue
        kept.append(entry)
    return kept


class Template:
    """``data.pattern``: "/" between folders, {label}, {group}, and * for any characters of one name.

    Each wildcard ends at the first place where the text behind it fits, so matching takes linear time.

    Raises:
        ConfigError: if the pattern has unknown fields, or two wildcards with nothing between them.
    """

    def __init__(self, pattern):
        self.segments = [_tokens(segment, pattern) for segment in pattern.split("/")]
        fields = [token for tokens in self.segments for token in tokens if token in FIELDS]
        if len(set(fields)) < len(fields):
            raise _pattern_error(pattern, "a field twice", "each of {label} and {group} once")
        self.has_label = "{label}" in fields

    def match(self, stem):
        """Fields of a path without extension, or None where it does not match."""
        names = stem.split("/")
        if len(names) != len(self.segments):
            return None
        fields = {}
        for tokens, name in zip(self.segments, names, strict=True):
            if not _match(tokens, name, fields):
                return None
        return fields


def _tokens(segment, pattern):
    """Split "a{label}_*" into ["a", "{label}", "_", "*"]."""
    tokens = []
    while segment:
        if segment[0] == "*":
            token = "*"
        elif segment[0] == "{":
            token = segment[: segment.find("}") + 1]
            if token not in FIELDS:
                raise _pattern_error(pattern, quoted(token or segment), " or ".join(FIELDS))
        else:
            ends = [at for at in (segment.find("*"), segment.find("{")) if at > 0]
            token = segment[: min(ends, default=len(segment))]
        if tokens and _is_wild(token) and _is_wild(tokens[-1]):
            raise _pattern_error(pattern, f"{tokens[-1]}{token}", "a character between the two")
        tokens.append(token)
        segment = segment[len(token) :]
    return tokens


def _pattern_error(pattern, got, expected):
    return ConfigError(f"data.pattern: got {got} in {quoted(pattern)}, expected {expected}; correct it")


def _is_wild(token):
    return token == "*" or token in FIELDS


def _match(tokens, name, fields):
    at = 0
    for number, token in enumerate(tokens):
        if not _is_wild(token):
            if not name.startswith(token, at):
                return False
            at += len(token)
            continue
        least = at + (token != "*")
        behind = tokens[number + 1] if number + 1 < len(tokens) else ""
        end = name.find(behind, least) if number + 2 < len(tokens) else len(name) - len(behind)
        if end < least:
            return False
        fields[token.strip("{}")] = name[at:end]
        at = end
    return at == len(name)


def _label_is_good(entry, data_config, reading):
    label, labels = entry.label, data_config.labels
    if not label:
        advice = "move it there, or give data.pattern or manifest.csv"
        reading.add("label", entry.name, "", "no label", "a folder with the name of its class around it", advice)
    elif labels and label not in labels:
        advice = reading.did_you_mean(label, labels) or "rename it or add it to data.labels"
        expected = "one of data.labels: " + ", ".join(labels[:10]) + ", ..." * (len(labels) > 10)
        reading.add("label", entry.name, "label", quoted(label), expected, advice)
    elif not fits(label, MAX_TEXT_BYTES):
        expected = f"printable text of at most {MAX_TEXT_BYTES} UTF-8 bytes"
        reading.add("label", entry.name, "label", quoted(label), expected, "rename it")
    else:
        return True
    return False


def class_names(recordings, data_config, folder, notes=None):
    """Names of the classes in order.

    Args:
        notes: list that takes the line on a single class; None = that is an error.
    Raises:
        DataError: if there are too few or too many.
    """
    if data_config.labels:
        return list(data_config.labels)
    labels = sorted({recording.label for recording in recordings})
    if all(label.casefold() in PARTS for label in labels):
        advice = 'give data.pattern, as in "*/{label}/{group}_*", or move the folders of the classes to the top'
        raise DataError(sentence(folder, "label", f"the folders {', '.join(labels)}", "names of classes", advice))
    if 2 <= len(labels) <= MAX_CLASSES:
        return labels
    got = f"{len(labels)} class{'es' * (len(labels) != 1)} ({', '.join(labels[:3])})"
    advice = "a classifier needs two or more: one folder for each class"
    text = sentence(folder, "label", got, f"2..{MAX_CLASSES}", advice)
    if notes is None or len(labels) > 1:
        raise DataError(text)
    notes.append(text)
    return labels


def misspelt(recordings):
    """A line on each label of few recordings whose name is nearly that of a common one; without ``data.labels``."""
    counts = Counter(recording.label for recording in recordings)
    rare = [label for label, n in counts.items() if n <= RARE * max(counts.values())][:MAX_HINTS]
    lines = []
    for label in sorted(rare):
        nearest = difflib.get_close_matches(label, [other for other in counts if other not in rare], n=1, cutoff=0.8)
        if nearest:
            lines.append(
                f"label {label}: {counts[label]} of {len(recordings)} recordings, and {counts[nearest[0]]} of "
                f"{nearest[0]}; if that is a misspelling, rename it, or give the classes in data.labels"
            )
    return lines


def of_one_group(recordings):
    """A line on the labels that only one of several groups has, in a list; no line where there are none."""
    groups = {}
    for recording in recordings:
        groups.setdefault(recording.label, set()).add(recording.group)
    alone = [f"{label} ({next(iter(found))})" for label, found in sorted(groups.items()) if len(found) == 1]
    if not alone or len(set.union(*groups.values())) < 2:
        return []
    some = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
    return [f"label {some}: recordings of one group only, which cannot be trained on and tested; record more groups"]


# ---- manifest.csv --------------------------------------------------------------------------------------------------


def read_manifest(folder, reading):
    """Rows of manifest.csv as dicts with the keys of MANIFEST_COLUMNS and "line".

    Raises:
        DataError: if it is no table with a column ``file``.
    """
    try:
        text = read_bytes(Path(folder, MANIFEST), MAX_MANIFEST_BYTES).decode("utf-8-sig")
        rows = [row for row in numbered_rows(text) if any(cell.strip() for cell in row[1])]
    except FileFault as fault:
        raise DataError(sentence(MANIFEST, *fault.parts)) from None
    except UnicodeDecodeError:
        raise DataError(sentence(MANIFEST, "", "bytes that are no UTF-8", "UTF-8 text", "save it as UTF-8")) from None
    names = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if "file" not in names or len(rows) > MAX_FILES:
        got = f"{len(rows)} lines, the first with {quoted(', '.join(names))}"
        expected = f"at most {MAX_FILES}, the first with file and perhaps label, group, split"
        raise DataError(sentence(MANIFEST, "", got, expected, "write file,label,group,split into its first line"))
    for name in names:
        if name not in MANIFEST_COLUMNS:
            advice = reading.did_you_mean(name, MANIFEST_COLUMNS) or "it is not used"
            reading.add("manifest", MANIFEST, "", f"the column {quoted(name)}", ", ".join(MANIFEST_COLUMNS), advice)
    return [_manifest_row(line, names, cells) for line, cells in rows[1:]]


def _manifest_row(line, names, cells):
    row = dict.fromkeys(MANIFEST_COLUMNS, "")
    row |= {name: cell.strip() for name, cell in zip(names, cells, strict=False) if name in row}
    return row | {"line": line}


def numbered_rows(text):
    """(line number, cells) of CSV text; blank and # lines are skipped, the first line decides the delimiter."""
    delimiter = None
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            delimiter = delimiter or delimiter_of(line)
            yield number, split_line(line, delimiter)


def delimiter_of(header):
    """The delimiter of a table by its first line: tab, semicolon or comma."""
    bare = "".join(header.split('"')[::2])
    return max("\t;,", key=bare.count) if any(mark in bare for mark in "\t;,") else ","


def split_line(line, delimiter):
    """Cells of one line; a cell may be quoted but not hold a line break."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error as error:
        raise FileFault("value", "", f"a line that is no CSV ({shown(str(error))})", "cells", "correct it") from None


def _manifest_entries(folder, kind, found, listed, reading):
    """Entries of the files that the manifest lists, sorted by name."""
    entries = {}
    for row in listed:
        name, where = row["file"].replace("\\", "/").removeprefix("./"), f"line {row['line']}"
        fault = _row_fault(row, name, kind, found, entries, reading)
        if fault:
            reading.add("manifest", MANIFEST, where, *fault)
            reading.n_files += name not in entries
        else:
            split = row["split"].lower()
            entries[name] = replace(_entry(folder, name), label=row["label"], group=row["group"], part=split)
    return [entries[name] for name in sorted(entries)]


def _is_in(name, found):
    at = bisect.bisect_left(found, name)
    return at < len(found) and found[at] == name


def _row_fault(row, name, kind, found, entries, reading):
    """What is wrong with a line of the manifest: (got, expected, advice), or None. ``found`` is sorted."""
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
        return quoted(row["file"]), "a file in this folder", "copy it here and give its name"
    if name in entries:
        return f"{quoted(name)} a second time", "each file once", "remove the line"
    if not _is_in(name, found):
        advice = reading.did_you_mean(name, found[:2000]) or "correct the name or remove the line"
        return f"{quoted(name)}, which is not there", "a file in this folder", advice
    if not name.lower().endswith(SUFFIXES[kind]):
        return quoted(name), f"a name that ends in {SUFFIXES[kind][0]}", "remove the line"
    if row["split"].lower() not in ("", "train", "test"):
        return f"split = {quoted(row['split'])}", "train or test", "correct it"
    return None
