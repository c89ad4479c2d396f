import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from everyflop.backend.compile_cache import remove_unfinished
from everyflop.backend.compiler import why_not
from everyflop.backend.device import detect

needs_compiler = pytest.mark.skipif(why_not(detect(processor=True)) is not None, reason="there is no compiler here")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have other libraries")

LIBRARY = Path(torch.__file__).parent / "lib" / "libshm.so"
"""Any library."""


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """Half a library in a cache, beside a whole one."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    (tmp_path / "ab").mkdir()
    whole = LIBRARY.read_bytes()
    (tmp_path / "ab" / "whole.main.so").write_bytes(whole)
    path = tmp_path / "ab" / "half.main.so"
    path.write_bytes(whole[: len(whole) // 2])
    return path


@on_linux
@pytest.mark.parametrize("size", [0, 10, 64, 5000, -64, -1])
def test_an_unfinished_library_is_removed_wherever_it_ends(cached, size):
    cached.write_bytes(LIBRARY.read_bytes()[:size])

    assert remove_unfinished() == [cached]
    assert [path.name for path in cached.parent.iterdir()] == ["whole.main.so"]


@on_linux
def test_a_library_whose_header_is_not_written_yet_is_unfinished(cached):
    cached.write_bytes(bytes(64) + LIBRARY.read_bytes()[64:])

    assert remove_unfinished() == [cached]


@on_linux
def test_a_library_that_is_being_made_stays(cached):
    with FileLock(cached.parent.parent / "locks" / "half.lock"):
        assert remove_unfinished() == []

    assert cached.exists()


PROGRAM = """
import torch
from everyflop.backend.compiler import compiled

torch._inductor.config.cpp.simdlen = 1  # without the libraries that try vector units
print(compiled(lambda x: (x * 2).cos().sum())(torch.zeros(64)).item())
"""


@pytest.mark.full
@on_linux
@needs_compiler
def test_a_process_that_was_killed_while_it_compiled_stops_no_later_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def run() -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)

    first = run()
    (library,) = tmp_path.glob("*/*.main.so")
    size = library.stat().st_size
    library.write_bytes(library.read_bytes()[: size // 15])  # loading it would end in a bus error
    second = run()

    assert first.stdout.split() == second.stdout.split() == ["64.0"], second.stderr
    assert (first.stderr, library.stat().st_size) == ("", size)
    assert f"Removed {library}" in second.stderr
