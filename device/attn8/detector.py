"""Detector: turns the outputs of window after window, or hop after hop, into events."""

from array import array

from .tables import EXP


class Detector:
    """Says once when something begins: the average score of a class over some updates reaches a threshold.

        event = detector.update(stream.output)      # at every hop; or update(model.run(window))
        if event: print(event)

    One update stands for hop / sample_rate_hz seconds. Of each, every class has a score 0..100, as predict reports it
    of the best; all together make about 100. The model's own thresholds are not asked. Before the first ``smooth``
    updates the missing ones count as score 0. update allocates nothing.

    Args:
        model: a Model.
        smooth: updates to average over, 1..255: more is calmer and later.
        threshold: average score 1..100 at which a class becomes active: that is the event.
        release: average score 0..threshold below which it ends; default: two thirds of the threshold. Not before that,
            or an event of another class in between, can the class begin anew.
        refractory: smallest number of updates from one event to the next, 0..65535. What is still above the threshold
            when they are over is an event then.
        ignore: labels, or one, that are never an event, such as rest and noise.

    Attributes:
        active: label of the class whose event lasts, or None.
        score: its average score 0..100; while there is none, the highest of the classes not ignored.
        scores: bytearray with the average score of each class, in the order of model.labels.

    Raises:
        ValueError: if a number is out of range or a label is unknown.
    """

    def __init__(self, model, smooth=4, threshold=60, release=None, refractory=0, ignore=()):
        release = threshold * 2 // 3 if release is None else release
        _check("smooth", smooth, 1, 255)
        _check("threshold", threshold, 1, 100)
        _check("release", release, 0, threshold)
        _check("refractory", refractory, 0, 65535)
        self._labels = model.labels
        n = len(self._labels)
        self._softmax = model._softmax
        ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        for label in ignore:
            if label not in self._labels:
                raise ValueError(f"ignore: got '{label}', expected labels of the model: {', '.join(self._labels)}")
        self._fires = bytearray([label not in ignore for label in self._labels])
        self._smooth, self._refractory = smooth, refractory
        self._on, self._off = threshold * smooth, release * smooth  # in sums, which round nothing
        self._now = bytearray(n)
        self._ring = bytearray(smooth * n)  # scores of the last updates
        self._sums = array("H", [0] * n)  # of each class over the ring
        self.scores = bytearray(n)
        self.reset()

    def reset(self):
        """Forgets everything that was seen, as after a gap in the recording."""
        for i in range(len(self._ring)):
            self._ring[i] = 0
        for i in range(len(self._sums)):
            self._sums[i] = self.scores[i] = 0
        self._at = self._rest = self.score = 0
        self._class = -1
        self.active = None

    def update(self, outputs):
        """Takes the outputs of one run or hop; returns the label of a class that begins, else None.

        Args:
            outputs: n_outputs int8, signed or as bytes.

        Raises:
            ValueError: if there are not n_outputs.
        """
        if len(outputs) != len(self._labels):
            raise ValueError(f"update: got {len(outputs)} outputs, expected {len(self._labels)}")
        self._score(outputs)
        self._average()
        return self._decide()

    def _score(self, outputs):
        """Writes the score of each class (models/FORMAT.md, "score")."""
        now = self._now
        dmax, dm, dpre, dsh = self._softmax
        top = z = 0
        for i in range(len(now)):
            top = max(top, (outputs[i] & 255) ^ 128)
        for i in range(len(now)):
            d = min(top - ((outputs[i] & 255) ^ 128), dmax) >> dpre
            now[i] = EXP[min(((d * dm >> (dsh - 1)) + 1) >> 1, 255)]
            z += now[i]
        for i in range(len(now)):
            now[i] = (100 * now[i] + (z >> 1)) // z

    def _average(self):
        """Puts the scores of this update in place of the oldest."""
        now, ring, sums = self._now, self._ring, self._sums
        at, smooth = self._at, self._smooth
        for i in range(len(now)):
            sums[i] += now[i] - ring[at]
            ring[at] = now[i]
            self.scores[i] = (sums[i] + (smooth >> 1)) // smooth
            at += 1
        self._at = at if at < len(ring) else 0

    def _decide(self):
        """Ends what fell below release, begins what reached the threshold."""
        sums = self._sums
        if self._class >= 0 and sums[self._class] < self._off:
            self._class = -1
        best = self._class
        for i in range(len(sums)):
            if self._fires[i] and (best < 0 or sums[i] > sums[best]):
                best = i
        if self._rest:
            self._rest -= 1
        begins = best >= 0 and best != self._class and sums[best] >= self._on and not self._rest
        if begins:
            self._class, self._rest = best, self._refractory
        shown = self._class if self._class >= 0 else best
        self.active = self._labels[self._class] if self._class >= 0 else None
        self.score = self.scores[shown] if shown >= 0 else 0
        return self.active if begins else None


def _check(name, value, low, high):
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: got {value}, expected a whole number {low}..{high}")
