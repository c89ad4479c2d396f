from pathlib import Path

import pytest

from everyflop.base.errors import DataError
from everyflop.data.stdlib import module_of, near_duplicates, stdlib_files, stdlib_root


def write(root: Path, **files: str) -> list[Path]:
    paths = [root / f"{name}.py" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return paths


def lines(*numbers: int) -> str:
    return "".join(f"value_{number} = {number}\n" for number in numbers)


def test_the_running_interpreter_has_its_modules():
    names = {path.relative_to(stdlib_root()).as_posix() for path in stdlib_files(stdlib_root())}

    assert {"ast.py", "json/decoder.py", "unittest/mock.py"} <= names


def test_tests_tables_and_installed_packages_are_left_out(tmp_path):
    left_out = ["test/a.py", "json/tests/a.py", "encodings/a.py", "idlelib/a.py", "lib2to3/a.py", "pydoc_data/a.py"]
    left_out += ["site-packages/numpy/a.py", "dist-packages/a.py", "json/note.txt"]
    for name in [*left_out, "json/a.py", "testing.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")

    assert [path.relative_to(tmp_path).as_posix() for path in stdlib_files(tmp_path)] == ["json/a.py", "testing.py"]


def test_an_installation_without_source_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no \*\.py files of Python's standard library"):
        stdlib_files(tmp_path)


def test_a_file_belongs_to_its_top_level_module():
    assert [module_of(name) for name in ("ast.py", "json/decoder.py", "xml/dom/minidom.py")] == ["ast", "json", "xml"]


def test_a_file_with_four_fifths_of_its_lines_in_an_earlier_one_is_dropped(tmp_path):
    a, b, c = write(tmp_path, a=lines(*range(20)), b=lines(0, 1, 2, 3, 99), c=lines(0, 1, 2, 98, 99))

    assert near_duplicates([a, b, c]) == {b}


def test_lines_scattered_over_several_files_make_no_duplicate(tmp_path):
    files = write(tmp_path, a=lines(0, 1, 2, 3), b=lines(4, 5, 6, 7), c=lines(0, 1, 2, 4, 5, 6))

    assert near_duplicates(files) == set()


def test_a_dropped_file_drops_no_other(tmp_path):
    # Four of b's five lines are in a, so b goes. Four of c's five lines are in b, but only three in a.
    files = write(tmp_path, a=lines(*range(8)), b=lines(*range(4), 50), c=lines(0, 1, 2, 50, 51))

    assert near_duplicates(files) == {files[1]}


def test_indentation_repeats_and_blank_lines_do_not_count(tmp_path):
    a, b = write(tmp_path, a=lines(0, 1, 2), b="\n\n    value_0 = 0\n    value_0 = 0\n\n  value_1 = 1\n")

    assert near_duplicates([a, b]) == {b}


def test_empty_files_are_no_duplicates(tmp_path):
    assert near_duplicates(write(tmp_path, a="", b="", c="\n")) == set()
