"""Every number that the device package makes fits the 31-bit small integers of a board.

The package's source is rewritten so that the result of every operator is checked, and then used as it is on a board:
on hostile files, and on windows of random models and extremes. 64-bit MicroPython would hide a larger number.
"""

import ast
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from attn8 import device
from attn8.reference import Reference, check_model
from models import random_model, recording_for, windows_for
from tools import ROOT

sys.path.insert(0, str(ROOT / "tests" / "device"))

from mutants import mutants

LIMIT = 1 << 30
MODULES = (
    "format",
    "tables",
    "checking",
    "_python",
    "_norm_python",
    "_tokens_python",
    "kernels",
    "plan",
    "golden",
    "model",
    "tokens",
    "stream",
    "loading",
)


def checked(value):
    """Returns the result of an operator; an int outside [-2^30, 2^30) fails the test."""
    if type(value) is int and not -LIMIT <= value < LIMIT:
        raise AssertionError(f"{value} is outside 31 bits")
    return value


class CheckOperators(ast.NodeTransformer):
    """Wraps the result of every operator in checked(), also that of x += y."""

    def _wrapped(self, node):
        return ast.copy_location(ast.Call(ast.Name("checked", ast.Load()), [node], []), node)

    def visit_BinOp(self, node):
        return self._wrapped(self.generic_visit(node))

    def visit_UnaryOp(self, node):
        return self._wrapped(self.generic_visit(node))

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        target = ast.parse(ast.unparse(node.target), mode="eval").body
        total = self._wrapped(ast.BinOp(target, node.op, node.value))
        return ast.copy_location(ast.Assign([node.target], total), node)


@pytest.fixture(scope="module")
def package():
    """The device package with every operator checked, and without binascii, whose CRC has 32 bits."""
    name = "attn8_checked"
    parent = sys.modules[name] = ModuleType(name)
    parent.__path__ = []
    for module_name in MODULES:
        path = Path(device.__file__).with_name(module_name + ".py")
        tree = ast.fix_missing_locations(CheckOperators().visit(ast.parse(path.read_text(encoding="utf-8"))))
        module = sys.modules[f"{name}.{module_name}"] = ModuleType(f"{name}.{module_name}")
        module.__package__, module.checked = name, checked
        exec(compile(tree, path, "exec"), vars(module))
        setattr(parent, module_name, module)
    parent.format.crc32 = None
    yield parent
    for key in [key for key in sys.modules if key.startswith(name)]:
        del sys.modules[key]


def test_a_number_of_31_bits_is_noticed():
    tree = ast.fix_missing_locations(CheckOperators().visit(ast.parse("x = 1\nx <<= 30")))
    with pytest.raises(AssertionError, match="1073741824 is outside 31 bits"):
        exec(compile(tree, "test", "exec"), {"checked": checked})


def test_hostile_files_never_leave_31_bits(package):
    models = [random_model(seed) for seed in range(40, 46)]
    for data in mutants(models, 500, seed=3):
        assert package.format.check_model(data) == check_model(data)


@pytest.mark.parametrize("seed", range(12))
def test_runs_never_leave_31_bits(package, seed):
    data = random_model(seed + 200)
    model, reference = package.loading.load(data), Reference(data)
    assert model.selftest()
    x = windows_for(data, 8, seed)  # every eighth is made of extremes
    limits = np.iinfo(x.dtype)
    x = np.concatenate([x, np.full_like(x[:1], limits.min), np.full_like(x[:1], limits.max)])
    got = [list(model.run(window)) for window in x]
    np.testing.assert_array_equal(got, reference.run(x))
    model.predict(x[0])


@pytest.mark.parametrize("seed", range(6))
def test_streams_never_leave_31_bits(package, seed):
    data = random_model(seed + 300, pad_right=0, right=0)
    x = recording_for(data, 200, seed)
    limits = np.iinfo(x.dtype)
    for part, extreme in ((slice(60, 120), limits.min), (slice(130, 190), limits.max)):
        x[part] = extreme
    stream = package.loading.load(data).stream(7)
    got = [list(stream.output) for sample in x if stream.push(sample)]
    np.testing.assert_array_equal(got, Reference(data).run_recording(x, 7))


def test_accepted_mutants_never_leave_31_bits(package):
    """Extreme multipliers, shifts and biases that the checker allows."""
    models = [random_model(seed) for seed in range(60, 64)]
    accepted = [data for data in mutants(models, 300, seed=4) if check_model(data) == 0]
    assert len(accepted) > 40
    for data in accepted:
        x = windows_for(data, 8)[-1]
        assert list(package.loading.load(data).run(x)) == Reference(data).run(x[None])[0].tolist()
