"""The Detector: scores as the model gives them, and events as documented. Runs unchanged on every Python."""

from array import array

from case import attn8, path, raises, read

try:
    from attn8.device.detector import Detector
except ImportError:
    from attn8.detector import Detector

try:
    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = None


class Model:
    """What a Detector asks of a model; one step of the outputs lowers a class to e^(-1/16)."""

    labels = ("wave", "circle", "rest")
    _softmax = (129, 16384, 0, 13)


WAVE, CIRCLE, REST = (0, -128, -128), (-128, 0, -128), (-128, -128, 0)  # score 100 of one class
EVEN = (0, 0, 0)  # 33 each


def events(detector, sequence):
    """Returns what update says to each of the outputs."""
    return [detector.update(array("b", outputs)) for outputs in sequence]


def test_scores_are_those_of_the_model():
    for name in ("int16", "int8"):
        m = attn8.load(path(name + ".a8"))
        detector, y = Detector(m, smooth=1), read(name + ".y")
        seen = set()
        for at in range(0, len(y), m.n_outputs):
            outputs = y[at : at + m.n_outputs]
            detector.update(outputs)
            label, score = m.decide(outputs)
            assert max(detector.scores) == detector.score == score
            assert label is None or list(detector.scores).index(score) <= m.labels.index(label)
            assert 95 <= sum(detector.scores) <= 105
            seen.add(score)
        assert len(seen) > 1


def test_signed_and_unsigned_outputs_are_the_same():
    signed, unsigned = Detector(Model), Detector(Model)
    for outputs in (WAVE, CIRCLE, (5, -3, 127), (-128, 127, -1)):
        signed.update(array("b", outputs))
        unsigned.update(bytearray([v & 255 for v in outputs]))
        assert signed.scores == unsigned.scores


def test_event_comes_once_when_the_average_reaches_the_threshold():
    detector = Detector(Model, smooth=4, threshold=75)
    assert events(detector, [WAVE] * 6) == [None, None, "wave", None, None, None]
    assert detector.active == "wave" and detector.score == 100


def test_one_window_among_others_is_no_event():
    detector = Detector(Model, smooth=4, threshold=50, ignore="rest")
    assert events(detector, [REST, REST, WAVE, REST, REST, REST, WAVE, REST]) == [None] * 8


def test_threshold_is_reached_exactly():
    for smooth in (1, 3, 7, 255):
        found = events(Detector(Model, smooth=smooth, threshold=100), [WAVE] * (smooth + 1))
        assert found == [None] * (smooth - 1) + ["wave", None]
    detector = Detector(Model, smooth=3, threshold=67)
    assert events(detector, [WAVE, WAVE, REST]) == [None] * 3
    assert detector.score == 67 and detector.active is None  # 66.7 is shown as 67 and is less


def test_class_stays_active_until_it_falls_below_release():
    detector = Detector(Model, smooth=4, threshold=75, release=50, ignore="rest")
    assert events(detector, [WAVE] * 4 + [REST, REST, WAVE, WAVE, WAVE])[4:] == [None] * 5
    events(detector, [REST, REST])
    assert detector.active == "wave"  # 50 is not below 50
    assert events(detector, [REST]) == [None] and detector.active is None
    assert events(detector, [WAVE] * 4) == [None, None, "wave", None]


def test_without_hysteresis_the_same_course_begins_twice():
    course = [WAVE] * 4 + [REST, REST, WAVE, WAVE, WAVE]
    assert events(Detector(Model, smooth=4, threshold=75, release=75), course).count("wave") == 2
    assert events(Detector(Model, smooth=4, threshold=75, release=50), course).count("wave") == 1


def test_release_is_two_thirds_of_the_threshold():
    detector = Detector(Model, smooth=10, threshold=60, ignore="rest")
    events(detector, [WAVE] * 10 + [REST] * 6)
    assert detector.active == "wave"
    events(detector, [REST])
    assert detector.active is None


def test_another_class_may_follow_at_once():
    detector = Detector(Model, smooth=2, threshold=50, release=10)
    assert events(detector, [WAVE, WAVE, CIRCLE, CIRCLE]) == ["wave", None, None, "circle"]
    assert detector.active == "circle"


def test_equal_scores_change_nothing():
    detector = Detector(Model, smooth=1, threshold=30, release=30)
    assert events(detector, [CIRCLE, EVEN, EVEN]) == ["circle", None, None]


def test_refractory_is_the_smallest_distance_of_events():
    course = [WAVE, CIRCLE] * 8
    for refractory, every in ((0, 1), (1, 1), (2, 2), (3, 3), (5, 5)):
        found = events(Detector(Model, smooth=1, refractory=refractory), course)
        assert [i for i in range(16) if found[i]] == list(range(0, 16, every)), refractory


def test_what_lasts_when_the_refractory_time_is_over_is_an_event():
    detector = Detector(Model, smooth=1, refractory=5)
    assert events(detector, [WAVE, REST] + [WAVE] * 5) == ["wave", None, None, None, None, "wave", None]
    assert events(detector, [REST] * 9 + [CIRCLE])[-1] == "circle"


def test_ignored_classes_are_never_an_event():
    detector = Detector(Model, smooth=1, ignore=("rest",))
    assert events(detector, [REST, REST, WAVE, REST]) == [None, None, "wave", None]
    assert detector.active is None
    assert detector.score == 0 and list(detector.scores) == [0, 0, 100]
    assert events(Detector(Model, smooth=1, ignore="rest"), [REST, CIRCLE]) == [None, "circle"]
    everything = Detector(Model, smooth=1, ignore=Model.labels)
    assert events(everything, [REST, WAVE]) == [None, None] and everything.score == 0


def test_reset_forgets_what_was_seen():
    course = [WAVE] * 3 + [EVEN, CIRCLE, (3, -2, 1), CIRCLE, CIRCLE]
    detector = Detector(Model, smooth=3, threshold=55, refractory=4)
    first = events(detector, course)
    assert detector.active
    detector.reset()
    assert (detector.active, detector.score, list(detector.scores)) == (None, 0, [0, 0, 0])
    assert events(detector, course) == first


class Slow:
    """The rules of the Detector on whole lists, summed anew each time."""

    def __init__(self, smooth, threshold, release, refractory, ignore):
        self.smooth, self.threshold, self.release, self.refractory = smooth, threshold, release, refractory
        self.fires = [i for i in range(3) if Model.labels[i] not in ignore]
        self.past, self.active, self.last = [], None, -refractory

    def update(self, scores):
        self.past.append(scores)
        sums = [sum([s[c] for s in self.past[-self.smooth :]]) for c in range(3)]
        if self.active is not None and sums[self.active] < self.release * self.smooth:
            self.active = None
        n = len(self.past) - 1
        for c in sorted(self.fires, key=lambda c: -sums[c]):
            held = -1 if self.active is None else sums[self.active]
            if sums[c] <= held or sums[c] < self.threshold * self.smooth or n - self.last < self.refractory:
                return None
            self.active, self.last = c, n
            return Model.labels[c]


def random_numbers(seed):
    """Yields 0..255, the same on every Python."""
    while True:
        seed = (seed * 25173 + 13849) & 65535
        yield seed >> 8


def test_events_are_those_of_the_rules_on_whole_lists():
    numbers = random_numbers(7)
    count = 0
    for smooth, threshold, release, refractory, ignore in (
        (1, 50, 30, 0, ()),
        (3, 45, 40, 0, ("rest",)),
        (4, 60, 20, 3, ()),
        (5, 40, 0, 6, ("circle",)),
        (2, 34, 34, 2, ()),
    ):
        detector, scorer = Detector(Model, smooth, threshold, release, refractory, ignore), Detector(Model, 1)
        slow = Slow(smooth, threshold, release, refractory, ignore)
        outputs, hold = array("b", EVEN), 0
        for _ in range(120):
            if not hold:
                hold = next(numbers) % 7 + 1
                outputs = array("b", [next(numbers) // 8 - 16 for _ in range(3)])
            hold -= 1
            scorer.update(outputs)
            expected = slow.update(list(scorer.scores))
            assert detector.update(outputs) == expected
            assert detector.active == (None if slow.active is None else Model.labels[slow.active])
            count += expected is not None
    assert count > 30


def text(*arguments):
    return str(raises(ValueError, Detector, Model, *arguments))


def test_settings_out_of_range_are_refused():
    assert text(0) == "smooth: got 0, expected a whole number 1..255"
    assert text(256) == "smooth: got 256, expected a whole number 1..255"
    assert text(4, 0) == "threshold: got 0, expected a whole number 1..100"
    assert text(4, 101) == "threshold: got 101, expected a whole number 1..100"
    assert text(4, 0.5) == "threshold: got 0.5, expected a whole number 1..100"
    assert text(4, 60, 61) == "release: got 61, expected a whole number 0..60"
    assert text(4, 60, 40, -1) == "refractory: got -1, expected a whole number 0..65535"
    assert text(4, 60, 40, 0, "waves") == "ignore: got 'waves', expected labels of the model: wave, circle, rest"


def test_outputs_of_another_model_are_refused():
    detector = Detector(Model, smooth=1)
    assert str(raises(ValueError, detector.update, bytes(4))) == "update: got 4 outputs, expected 3"


if heap_lock:

    def locked(detector, sequence):
        """A MemoryError must never leave the heap locked, so the lock stands inside a function."""
        heap_lock()
        try:
            for outputs in sequence:
                detector.update(outputs)
        finally:
            heap_unlock()

    def test_update_allocates_nothing():
        sequence = [array("b", outputs) for outputs in (WAVE, WAVE, CIRCLE, EVEN, REST, (127, -128, 0))] * 3
        for detector in (Detector(Model, 1, 50, 30), Detector(Model, 255, 1), Detector(Model, 2, 60, 40, 3, "rest")):
            locked(detector, sequence)
        m = attn8.load(path("int8.a8"))
        locked(Detector(m), [m.output, bytearray([127, 128, 0, 255, 1])])
