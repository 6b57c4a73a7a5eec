"""Text on its way to a terminal: names from files may hold escape sequences, which must not act there."""


def printable(text):
    """Text with everything escaped that a terminal would not show as it stands, but for line ends and tabs."""
    text = str(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def one_line(text):
    """The same, line ends and tabs included."""
    text = str(text)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def _shown(c):
    return c if c.isprintable() or c in "\n\t" else _escaped(c)


def _escaped(c):
    return c.encode("unicode_escape").decode()


class Printable:
    """A rich renderable whose texts are shown as ``printable`` makes them; its colours and styles stay."""

    def __init__(self, renderable):
        self.renderable = renderable

    def __rich_console__(self, console, options):
        for segment in console.render(self.renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield segment._replace(text=text)
