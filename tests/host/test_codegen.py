"""What is generated from spec.py is up to date."""

import shutil

import pytest

from attn8 import codegen, spec
from tools import ROOT


def test_nothing_in_the_source_tree_is_stale():
    assert codegen.stale(ROOT) == []


@pytest.fixture
def tree(tmp_path):
    for path in codegen.outputs(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_every_generated_file_is_found_stale_when_it_differs(tree):
    assert codegen.stale(tree) == []
    for path in codegen.outputs(tree):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("BUSY", "IDLE").replace("127", "126"), encoding="utf-8")
        assert codegen.stale(tree) == [path]
        path.write_text(text, encoding="utf-8")


def test_a_change_of_the_specification_makes_files_stale(tree, monkeypatch):
    changed = spec.ErrorCode(36, "SELFTEST", "another text", spec.ERRORS[-1].action)
    monkeypatch.setattr(spec, "ERRORS", (*spec.ERRORS[:-1], changed))
    names = {path.name for path in codegen.stale(tree)}
    assert {"FORMAT.md", "a8_format.h", "errors.py"} <= names
    assert {path.name for path in codegen.outputs(tree)} > names
    monkeypatch.setattr(spec, "FORMAT_MAJOR", 2)
    assert {path.name for path in codegen.stale(tree)} - names == {"format.py"}


def test_a_file_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="no line"):
        codegen.replace_block("nothing here", "# begin", "# end", "text")


def test_codes_and_offsets_are_unique():
    assert len({e.code for e in spec.ERRORS}) == len({e.name for e in spec.ERRORS}) == len(spec.ERRORS)
    assert len(spec.RECORD_BY_CODE) == len(spec.RECORDS)
    assert all(spec.FIRST_OP <= op.code <= spec.LAST_OP for op in spec.OPS)
    assert all(f.error in spec.ERROR_CODES for r in spec.RECORDS for f in r.fields)
    assert all(r.fixed_bytes % 4 == 0 for r in spec.RECORDS)
