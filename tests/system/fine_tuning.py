"""Does fine-tuning on two people, from a model of others, beat training from nothing on the same two?

    python tests/system/fine_tuning.py [--seeds 3] [--pairs 0 1 2 3] [--base-epochs 30] [--epochs 100]
    python tests/system/fine_tuning.py --choose

On the bundled shoulder exercises: ten people, each doing seven exercises once with either arm, in the five pairs of the
five folds of the shipped config. For each pair and seed:

- The base model is trained on six people: neither on the pair, nor on the pair of the next fold. Shipped settings.
- 14 of the pair's 28 recordings, the left arm of one and the right arm of the other (about 180 windows), are the
  training part of three more models: from nothing, fine-tuned from the base model, fine-tuned with a frozen front end.
  All get the same windows, seed and augmentation.
- "other arms": tested on the pair's other 14 recordings, which no model saw, of people that three of the four models
  know. Then the two sets of arms change places, which counts as a second result.
- "other people": tested on the pair of the next fold, whom none of the four models saw.

So no window of a recording, and no person of "other people", is ever on both sides. Base models of different pairs
share people, so the results are not independent: the deviation over them is a spread, not an error of the mean.

Every model gets its own learning rate and number of epochs, or the weaker one would only be the one with worse
settings. They are chosen by ``--choose`` on pair 4 (people 1 and 5) with seeds 100 and 101; the table is of the other
four pairs with seeds 0, 1, ... The figures are those of float models after the last epoch.

The row "base model" says what the two people's own recordings add: it is the same model before they were used.
"""

import argparse
import importlib.resources
import itertools
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from attn8.config import override, shipped_config
from attn8.data import load_windows, split_by_group
from attn8.data.npz import read_npz
from attn8.evaluate import evaluate_float
from attn8.train import train

CHOSEN_ON, CHOSEN_SEEDS = 4, (100, 101)
N_PAIRS = 5
ROWS = ("from nothing", "base model", "fine-tuned", "fine-tuned, frozen front end")
PARTS = ("other arms", "other people")
# learning rate and epochs, as chosen
SETTINGS = {
    "from nothing": (1e-3, 30),
    "fine-tuned": (3e-4, 30),
    "fine-tuned, frozen front end": (3e-4, 30),
}
GRID = [(3e-3, 30), (3e-3, 100), (1e-3, 30), (1e-3, 100), (3e-4, 30)]


class Pair:
    """Who is who for one pair: names of people, and the arm of every window.

    Attributes:
        people, others, base: names of the pair, of the pair of the next fold, and of the six left.
    """

    def __init__(self, number):
        self.windows = load_windows(shipped_config().data)
        folds = [split_by_group(self.windows, N_PAIRS, fold).test_groups for fold in range(N_PAIRS)]
        self.people, self.others = folds[number], folds[(number + 1) % N_PAIRS]
        self.base = [name for name in self.windows.group_names if name not in self.people + self.others]
        self.person = np.array(self.windows.group_names)[self.windows.group]
        recordings = importlib.resources.files("attn8.data") / "shoulder_exercises.npz"
        self.arm = read_npz(str(recordings), ("side",))["side"][self.windows.recording]

    def for_base(self):
        """The base people to train on, the others to test."""
        return self.part(np.isin(self.person, self.base), np.isin(self.person, self.others))

    def of_arms(self, arm):
        """One arm of the first, the other arm of the second to train on; what is left of the pair to test."""
        chosen = self.arm == np.where(self.person == self.people[0], arm, 1 - arm)
        pair = np.isin(self.person, self.people)
        return self.part(pair & chosen, pair & ~chosen)

    def part(self, train_part, test_part):
        """Windows of two masks, the second marked as the test part; a group is one arm of one person."""
        chosen, w = np.flatnonzero(train_part | test_part), self.windows
        names = np.char.add(self.person[chosen], np.where(self.arm[chosen] == 0, " left", " right"))
        group_names, group = np.unique(names, return_inverse=True)
        fields = {"x": w.x[chosen], "y": w.y[chosen], "recording": w.recording[chosen], "start": w.start[chosen]}
        return replace(w, **fields, group=group, group_names=group_names.tolist(), test=test_part[chosen])


def settings_of(seed, rate_and_epochs=(None, None), init="", freeze="none"):
    """The shipped settings, with another seed, learning rate, number of epochs and start."""
    values = {"training.learning_rate": rate_and_epochs[0], "training.epochs": rate_and_epochs[1]}
    values |= {"training.seed": seed, "training.init": init, "training.freeze": freeze}
    return override(shipped_config(), {key: value for key, value in values.items() if value is not None})


def trained(settings, windows, folder):
    """A model; progress and messages are not shown."""
    return train(settings, windows, folder, progress=False, replace_unfinished=True)


def train_base(pair, seed, folder, epochs=None):
    """Train the base model of a pair into a folder; returns (model, Windows whose test part is "other people")."""
    windows = pair.for_base()
    return trained(settings_of(seed, (None, epochs)), windows, folder).model, windows


def start_of(row, base):
    """What a row adds to the settings: nothing, or the base run, perhaps frozen."""
    if row == "from nothing":
        return {}
    return {"init": str(base), "freeze": "front_end" if row.endswith("front end") else "none"}


def test_scores(model, windows):
    """(accuracy, macro-F1) on the test part."""
    found = evaluate_float(model, windows, np.flatnonzero(windows.test))
    return found["accuracy"], found["macro_f1"]


def run_pair(number, seed, folder, base_epochs=None, epochs=None):
    """Train and test all four models of a pair.

    Returns:
        {(row, part): [(accuracy, macro-F1), one for each arm]}.
    """
    pair, base_dir = Pair(number), Path(folder) / "base"
    base, others = train_base(pair, seed, base_dir, base_epochs)
    found = {(row, part): [] for row in ROWS for part in PARTS}
    for arm in (0, 1):
        windows = pair.of_arms(arm)
        for row in ROWS:
            model = base
            if row in SETTINGS:
                rate, own_epochs = SETTINGS[row]
                settings = settings_of(seed, (rate, epochs or own_epochs), **start_of(row, base_dir))
                model = trained(settings, windows, Path(folder) / "tuned").model
            found[row, "other arms"].append(test_scores(model, windows))
            found[row, "other people"].append(test_scores(model, others))
    return found


def choose(grid=GRID, seeds=CHOSEN_SEEDS, base_epochs=None, say=print):
    """Print, for each kind of start, the accuracy on the other arms of the pair that the table leaves out."""
    pair = Pair(CHOSEN_ON)
    with tempfile.TemporaryDirectory() as folder:
        base = {seed: Path(folder) / f"base{seed}" for seed in seeds}
        for seed in seeds:
            train_base(pair, seed, base[seed], base_epochs)
        for row in SETTINGS:
            for rate_and_epochs in grid:
                found = []
                for seed, arm in itertools.product(seeds, (0, 1)):
                    settings = settings_of(seed, rate_and_epochs, **start_of(row, base[seed]))
                    windows = pair.of_arms(arm)
                    found.append(test_scores(trained(settings, windows, Path(folder) / "tuned").model, windows))
                (accuracy, f1), (rate, epochs) = np.mean(found, axis=0), rate_and_epochs
                say(f"{row:30} rate {rate:g}, {epochs:3} epochs: {accuracy:.1%}  macro-F1 {f1:.3f}")


def render(results):
    """The table: mean and deviation over pairs, seeds and arms, and in how many pairs a row beats "from nothing".

    Args:
        results: {(pair, seed): what ``run_pair`` returned}.
    """
    lines = [f"{'':30}" + "".join(f"{part:>38}" for part in PARTS)]
    pairs = sorted({pair for pair, _ in results})
    for row in ROWS:
        cells = []
        for part in PARTS:
            accuracy, f1 = np.array([pair for found in results.values() for pair in found[row, part]]).T
            wins = sum(mean_accuracy(results, row, part, p) > mean_accuracy(results, ROWS[0], part, p) for p in pairs)
            won = "" if row == ROWS[0] else f", wins {wins} of {len(pairs)}"
            cells.append(f"{accuracy.mean():.1%} ± {accuracy.std() * 100:.1f}, F1 {f1.mean():.3f}{won}")
        lines.append(f"{row:30}" + "".join(f"{cell:>38}" for cell in cells))
    return "\n".join(lines)


def mean_accuracy(results, row, part, pair=None):
    """Mean accuracy of a row over the seeds and arms of one pair, or of all."""
    chosen = [found[row, part] for (number, _), found in results.items() if pair in (None, number)]
    return float(np.mean([accuracy for arms in chosen for accuracy, _ in arms]))


def run_all(pairs, n_seeds, base_epochs=None, epochs=None, say=print):
    """Runs every pair with every seed; returns what ``render`` takes."""
    results = {}
    for number, seed in itertools.product(pairs, range(n_seeds)):
        with tempfile.TemporaryDirectory() as folder:
            found = run_pair(number, seed, folder, base_epochs, epochs)
        results[number, seed] = found
        figures = (f"{row} {np.mean(found[row, PARTS[0]], axis=0)[0]:.1%}" for row in ROWS)
        say(f"pair {number}, seed {seed}, {PARTS[0]}: {', '.join(figures)}")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, nargs="+", default=[p for p in range(N_PAIRS) if p != CHOSEN_ON])
    parser.add_argument("--base-epochs", type=int, help="of the base model, in place of the shipped 30")
    parser.add_argument("--epochs", type=int, help="of the three others, in place of those chosen")
    parser.add_argument("--choose", action="store_true", help="show the figures by which the settings were chosen")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.choose:
        choose()
    else:
        print(render(run_all(arguments.pairs, arguments.seeds, arguments.base_epochs, arguments.epochs)))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
