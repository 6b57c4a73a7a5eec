"""Splits by group: windows of one person or machine are never on both sides."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, DataError


@dataclass
class Split:
    """Window numbers, int64, of the three parts, and the names of the groups in each."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_groups: list[str]
    validation_groups: list[str]
    test_groups: list[str]


def split_windows(windows, data_config):
    """Split as a configuration says; see ``split_by_group``."""
    return split_by_group(
        windows, data_config.folds, data_config.fold, data_config.validation_groups, data_config.split_seed
    )


def split_by_group(windows, folds=5, fold=0, validation_groups=0, seed=0):
    """Deal the groups into folds and take one as the test part.

    A fixed ``windows.test`` wins over the folds. Validation groups come from the training part, so the test
    part never takes a hand in choosing settings.

    Args:
        windows: Windows.
        folds, fold: number of parts, and which of them is the test part.
        validation_groups: groups of the training part to hold back; 0 leaves the validation part empty.
        seed: another seed deals the groups differently.
    Returns:
        Split.
    Raises:
        DataError: if there are too few groups, or a class is missing from the training part.
    """
    if windows.test is None:
        test = _deal(_shuffled(windows, np.unique(windows.group), seed), folds, windows)[fold]
    else:
        test = np.unique(windows.group[windows.test])
    rest = _shuffled(windows, np.setdiff1d(windows.group, test), seed)
    if validation_groups >= len(rest):
        raise DataError(
            f"{windows.name}: data.validation_groups: got {validation_groups}, expected at most {len(rest) - 1} of "
            f"the {len(rest)} training groups; choose fewer"
        )
    # Turning with the fold lets different groups validate in different folds.
    rest = np.roll(rest, -fold * validation_groups)
    return _make_split(windows, rest[validation_groups:], rest[:validation_groups], test)


def _shuffled(windows, groups, seed):
    """Order by a hash of the name: the same on every machine and with every version of numpy."""

    def key(group):
        return hashlib.sha256(f"{seed}:{windows.group_names[group]}".encode()).digest()

    return np.array(sorted(groups.tolist(), key=key), np.int64)


def _deal(groups, folds, windows):
    if len(groups) < folds:
        raise DataError(
            f"{windows.name}: group: got {len(groups)} groups, expected at least data.folds = {folds}; "
            f"set data.folds to at most {len(groups)}"
        )
    return np.array_split(groups, folds)


def _make_split(windows, train, validation, test):
    parts = [np.flatnonzero(np.isin(windows.group, groups)) for groups in (train, validation, test)]
    names = [[windows.group_names[group] for group in np.sort(groups)] for groups in (train, validation, test)]
    split = Split(*parts, *names)
    _check_split(windows, split)
    return split


def _check_split(windows, split):
    sides = [set(split.train_groups), set(split.validation_groups), set(split.test_groups)]
    both = (sides[0] & sides[1]) | (sides[0] & sides[2]) | (sides[1] & sides[2])
    if both:
        raise DataError(
            f"{windows.name}: group: got {sorted(both)[0]!r} on both sides, expected one; rename the groups"
        )
    missing = np.setdiff1d(np.arange(len(windows.labels)), windows.y[split.train])
    if len(missing):
        names = ", ".join(windows.labels[label] for label in missing[:5])
        raise DataError(
            f"{windows.name}: y: got no training window of {names}, expected every class in the training groups; "
            "number y from 0, choose another data.fold or data.split_seed, or record more groups"
        )


def axes_triples(data_config, windows):
    """Channel triples that rotate together.

    Args:
        data_config: DataConfig; ``axes`` is "auto" or a list of [x, y, z] channel numbers.
        windows: Windows, for the channel names.
    Returns:
        list of (x, y, z) channel numbers, perhaps empty.
    Raises:
        ConfigError: if a channel number is not in the data.
    """
    if data_config.axes == "auto":
        return _named_triples(windows.channels)
    for triple in data_config.axes:
        if max(triple) >= len(windows.channels):
            raise ConfigError(
                f"data.axes: got channel {max(triple)}, expected 0..{len(windows.channels) - 1} for {windows.name}; "
                'correct it or set data.axes = "auto"'
            )
    return [tuple(triple) for triple in data_config.axes]


def _named_triples(channels):
    index = {name.lower(): number for number, name in enumerate(channels)}
    stems = [name[:-1] for name in index if name.endswith("x")]
    triples = [[index.get(stem + axis) for axis in "xyz"] for stem in stems]
    return [tuple(triple) for triple in triples if None not in triple]
