"""Names of groups. One person written in two ways is one group: as two, both sides of a split could hold them."""

import unicodedata

import numpy as np

from .recordings import quoted, shown

MOST_SHOWN = 200  # characters of a name
# Characters that show nothing and are no format characters (category Cf) by themselves.
BLANK = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0}
BLANK |= {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def spelling(name, most=MOST_SHOWN):
    """A name as it is shown: without invisible characters, spaces around it or several in a row."""
    seen = "".join(c for c in name if ord(c) not in BLANK and unicodedata.category(c) != "Cf")
    seen = " ".join(unicodedata.normalize("NFC", seen).split())
    return shown(seen or name, most)


def normal_form(name):
    """What is compared: equal for names that differ only in case, spaces, width, encoding or invisible characters."""
    for _ in range(2):  # case folding may undo what the normal form did, and the other way round
        name = unicodedata.normalize("NFKC", spelling(name, len(name))).casefold()
    return spelling(name, len(name))


def merge(names, most=MOST_SHOWN):
    """Bring the names of one group to one spelling, the first.

    Args:
        names: texts, in the order of the data.
    Returns:
        list of as many texts, and a note that names an example, or "" where no two differed.
    """
    first, spellings, example = {}, {}, None
    for name in dict.fromkeys(names):
        known = first.setdefault(normal_form(spelling(name, most)), name)
        spellings[name] = spelling(known, most)
        if known != name:
            example = example or (known, name)
    n_more = len(spellings) - len(first) - 1
    note = ""
    if example:
        note = (
            f"group: {quoted(example[0])} and {quoted(example[1])} differ only in case, spaces or encoding and are "
            "taken as one" + (f", and so are {n_more} more" if n_more else "") + "; if they are two, rename one"
        )
    return [spellings[name] for name in names], note


def first_part(name):
    """A name up to its first "_" or "-": the person of "anna_01"."""
    return name.replace("-", "_").split("_")[0] or name


def are_seen(names, known):
    """Which groups are among the known ones, as bool (R,).

    A recording that is a group of its own, as "wave/anna_1" is where names tell no others, is that of anna too.

    Args:
        names: texts (R,).    known: texts.
    """
    own = {normal_form(text) for text in known}
    people = own | {normal_form(_person(text)) for text in known}
    return np.array([normal_form(n) in people or normal_form(_person(n)) in own for n in names], bool)


def _person(name):
    return first_part(name.rpartition("/")[2]) if "/" in name else name
