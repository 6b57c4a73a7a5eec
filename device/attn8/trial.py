"""A model in trial: it becomes good by itself after enough windows."""

from .checking import submodule

slots = submodule("slots")
_FAILURES = (MemoryError, OSError)  # a tuple made where the heap is locked would be another


class Trial:
    """Stands before the methods of a Model that run a window, and counts down the model's ``confirm_after``.

    Counting takes no memory; the last window writes a record, which does, and puts the methods back. Where that fails
    it is tried again as many windows later.
    """

    def __init__(self, m, path):
        self._m, self._path = m, path
        self._run, self._step, self._push = m.run, m.step, m._push
        m.confirm_after = slots.CONFIRM_AFTER
        m.run, m.predict, m.step, m._push = self.run, self.predict, self.step, self.push

    def run(self, window, out=None):
        out = self._run(window, out)
        self._count()
        return out

    def predict(self, window=None):
        return self._m.decide(self._m.output if window is None else self.run(window))

    def step(self):
        more = self._step()
        if not more:
            self._count()
        return more

    def push(self, state, samples, out):
        n = self._push(state, samples, out)
        if n:
            self._count()
        return n

    def _count(self):
        m = self._m
        if not m.confirm_after:
            return
        m.confirm_after -= 1
        if m.confirm_after > 0:
            return
        try:
            slots.confirm_slot(self._path)
            del m.run, m.predict, m.step, m._push
        except _FAILURES:
            m.confirm_after = slots.CONFIRM_AFTER
