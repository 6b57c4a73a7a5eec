"""The configuration of cibuildmp, which builds natmods in containers: what it would do. Nothing is built by it here."""

import re
import sys

from attn8 import native_build
from tools import ROOT, need, need_micropython_tree, run

NATMOD = "native_modules/natmod"


def test_cibuildmp_plans_the_natmod_of_every_architecture():
    plan = run(need("cibuildmp"), "--dry-run", cwd=ROOT)
    archs = re.findall(rf"^ +\[\d+/\d+\] mpy6\.\d+-v[\d.]+-(\w+) +make -C {NATMOD} ARCH=\1 dist$", plan, re.MULTILINE)
    assert sorted(archs) == sorted(native_build.ARCHS), plan


def test_make_of_cibuildmp_leaves_one_natmod_where_it_looks(tmp_path):
    tree = need_micropython_tree()
    need("gcc")
    variables = ("ARCH=x64", f"MPY_DIR={tree}", f"PYTHON={sys.executable}", f"BUILD_ROOT={tmp_path}")
    run("make", "-C", ROOT / NATMOD, *variables, "dist")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*.mpy")] == ["x64/_attn8.mpy"]
