"""Pages that stand alone: templates filled with autoescape, written whole or not at all."""

from pathlib import Path

import jinja2

from . import __version__, svg
from .atomic import write_atomic

_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0)), "\ufffd")


def render(template, **values):
    """Fills attn8/templates/<template>.

    Every template has svg, version and the filters number, percent and fraction at hand; whatever is not svg's
    Markup is escaped. Control characters, which no HTML may hold, become U+FFFD.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("attn8", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"svg": svg, "version": __version__}
    environment.filters |= {"number": svg.number, "percent": svg.percent, "fraction": svg.fraction}
    return environment.get_template(template).render(values).translate(_CONTROL)


def write(path, html):
    """Writes a page beside ``path``, then replaces it. Returns its size in bytes."""
    path = Path(path)
    content = html.encode("utf-8", "replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)
    return len(content)
