"""What a board may answer: anything can come over a cable, so an answer has the shape that its reader takes."""

SHORT = range(1 << 16)
COUNT = range(1 << 48)  # bytes, microseconds, numbers of things
WHOLE = range(-(1 << 48), 1 << 48)


class Either:
    """A shape that is one of several."""

    def __init__(self, *shapes):
        self.shapes = shapes


def fits(value, shape):
    """Says whether a value has a shape.

    Args:
        shape: a class, a range of int, None, Either, a tuple of shapes (of a tuple or list of as many items), a list of
            one shape (of a tuple or list of any length), or a dict of one (of its keys and values).
    """
    if isinstance(shape, Either):
        return any(fits(value, one) for one in shape.shapes)
    if isinstance(shape, range):
        return isinstance(value, int) and not isinstance(value, bool) and value in shape
    if isinstance(shape, tuple):
        same = isinstance(value, (tuple, list)) and len(value) == len(shape)
        return same and all(map(fits, value, shape))
    if isinstance(shape, list):
        return isinstance(value, (tuple, list)) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        pairs = isinstance(value, dict) and value.items()
        return pairs is not False and all(fits(pair, one) for pair in pairs for one in shape.items())
    return value is None if shape is None else isinstance(value, shape)
