"""Commands that train begin with a heap that keeps large blocks."""

import subprocess
import sys

import pytest

from everyflop.backend.heap import KEEPING, better_heap

SCRIPT = """
import json, os, sys
from everyflop.backend.heap import begin_again_with_better_heap
begin_again_with_better_heap()
print(json.dumps([sys.argv[1:], {key: os.environ.get(key) for key in ("LD_PRELOAD", "MALLOC_MMAP_MAX_")}]))
"""


def found(name: str) -> str | None:
    return f"lib{name}.so.4"


def not_found(name: str) -> str | None:
    return None


@pytest.mark.parametrize("command", ["train", "profile", "measure"])
def test_commands_that_train_take_tcmalloc_where_it_is_and_tell_glibc_to_keep_blocks_elsewhere(command: str):
    assert better_heap([command, "run.toml"], {"PATH": "x"}, found)["LD_PRELOAD"] == "libtcmalloc_minimal.so.4"
    assert better_heap([command, "run.toml"], {"PATH": "x"}, not_found) == KEEPING


@pytest.mark.parametrize("words", [[], ["plan"], ["--help"], ["catalog", "list"], ["generate"]])
def test_other_commands_stay_as_they_are(words: list[str]):
    assert better_heap(words, {}, found) == {}


@pytest.mark.parametrize("chosen", ["LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"])
def test_a_heap_that_somebody_chose_stays(chosen: str):
    assert better_heap(["train"], {chosen: "1"}, found) == {}


def test_a_process_that_has_begun_again_goes_on():
    for find in (found, not_found):
        assert better_heap(["train"], better_heap(["train"], {}, find), find) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process begins again")
def test_a_process_begins_again_once_with_the_words_it_had(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    done = subprocess.run(
        [sys.executable, str(script), "train", "a b", "c=d"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert '[["train", "a b", "c=d"]' in done.stdout
    assert "tcmalloc" in done.stdout or '"MALLOC_MMAP_MAX_": "0"' in done.stdout
