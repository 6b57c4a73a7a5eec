"""Code as it is sent to a board: without what takes heap there."""

import ast
import re
from functools import cache
from pathlib import Path

from ..micropython import device_folder

FOLDER = Path(__file__).with_name("on_board")


def board_code(name, function=None):
    """Returns the code of a file in on_board/, without what takes heap there: comments, docstrings, wide indents.

    Args:
        name: of the file, without ".py".    function: only this one, and what it needs; by default all of them.
    """
    return _code_of(FOLDER / f"{name}.py", function)


def device_code(name):
    """Returns the code of a file of the device package, likewise, for a board that has no attn8."""
    return _code_of(device_folder() / f"{name}.py")


@cache
def _code_of(file, function=None):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    defined = {node.name: node for node in tree.body if hasattr(node, "name")}
    wanted = _reached(defined, function) if function else set(defined)
    tree.body = [node for node in tree.body if getattr(node, "name", None) in {*wanted, None}]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1 and isinstance(body[0], ast.Expr):
            text = body[0].value
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                del body[0]
    code = ast.unparse(tree)
    return re.sub("^(?: {4})+", lambda indent: " " * (len(indent[0]) // 4), code, flags=re.MULTILINE) + "\n"


def _reached(defined, function):
    """Returns the names of a function and of all that it uses of these definitions."""
    reached, ahead = set(), [function]
    while ahead:
        name = ahead.pop()
        reached.add(name)
        used = {node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)}
        ahead += (used & set(defined)) - reached
    return reached
