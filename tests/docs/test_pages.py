"""Every command in the documentation works, in the order of its page, in a folder that looks like a fresh clone.

What a fenced block says it is decides what happens to it: `sh` runs line by line, `python` whole, `toml` is written to
the file that its first line names, `text` is only to be read.
"""

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomli_w
import torch

from everyflop.backend.rates import memory_bytes_per_s
from everyflop.base.files import read_lines
from everyflop.spec.overrides import apply_overrides
from everyflop.spec.read import read_run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "python", "toml", "text"}

ELSEWHERE = {"git", "cd", "source", "make"}
"""They make the clone and its environment. `.ci/run` does that for real, with `make test`."""
HERE = {"mkdir", "cp"}

SMALLER = [
    "model.hidden=32",  # a step takes milliseconds
    "model.n_layers=2",
    "model.expert_width=32",
    "train.tokens=8192",  # 32 steps of 4 windows: enough for a signal, several checkpoints and a merge
    "train.seq_len=64",
    "train.batch_tokens=256",
    "train.micro_batch=4",
    "data.held_out_share=0.02",  # the last validation is on all of it
    "run.threads=1",
]
"""What the tests add to every run, so that the documentation can show runs worth doing."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str


@functools.cache
def blocks(page: str) -> list[Block]:
    return [Block(match[1], match[2]) for match in FENCE.finditer((ROOT / page).read_text(encoding="utf-8"))]


def commands(block: Block) -> list[str]:
    return [line for line in block.text.splitlines() if words(line)]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory) -> str:
    return f"data.prepared_dir={tmp_path_factory.mktemp('prepared')}"


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """Be in a folder with what the pages take from a clone."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("everyflop.train.first_screen.MEASURE_S", 0.0)  # two seconds that no test needs
    little = functools.partial(memory_bytes_per_s, mib=16)
    monkeypatch.setattr("everyflop.train.measure.memory_bytes_per_s", little)  # and half a GiB twice
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_fenced_block_says_what_it_is(page):
    unknown = [block.text.splitlines()[0] for block in blocks(page) if block.language not in LANGUAGES]

    assert (ROOT / page).read_text(encoding="utf-8").count("\n```") == 2 * len(blocks(page))
    assert unknown == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    shell = [words(line) for block in blocks(page) if block.language == "sh" for line in commands(block)]
    named = {word for command, *rest in shell if command == "make" for word in rest if "=" not in word}

    assert {name for name in named - phony if not (name.startswith("bench/") and (ROOT / name).is_file())} == set()


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language != "text" for block in blocks(page))])
def test_every_block_of_a_page_works_in_its_order(page, clone, everyflop, start_everyflop, prepared_once):
    smaller = [*SMALLER, prepared_once]
    for block in blocks(page):
        match block.language:
            case "sh":
                for line in commands(block):
                    run_line(line, everyflop, start_everyflop, smaller)
            case "toml":
                write_toml(block.text)
            case "python":
                shrink_run_files(smaller)
                exec(compile(block.text, page, "exec"), {"ids": torch.randint(0, 2048, (2, 16))})


def run_line(line: str, everyflop: Callable, start_everyflop: Callable, smaller: list[str]) -> None:
    command, *arguments = words(line)
    if command in ELSEWHERE:
        return
    if command in HERE:
        subprocess.run(["bash", "-c", line], check=True)
        return
    assert command == "everyflop", f"nobody knows how to run this: {line}"
    if arguments[0] in ("train", "profile") or arguments[:2] in (["data", "prepare"], ["measure", "--run"]):
        arguments = made_smaller(arguments, smaller)
    if "press Ctrl-C" in line:
        interrupt(start_everyflop(*arguments))
        return
    ended = everyflop(*arguments)
    assert ended.code == 0, f"{line}\n{ended.err}"
    if "--resume" in arguments:
        assert "after step" in ended.err, f"{line}\ndid not go on from anything:\n{ended.err}"


def made_smaller(arguments: list[str], smaller: list[str]) -> list[str]:
    """Return the arguments with overrides added, after checking that the run file takes those that are written."""
    run_file = next(word for word in arguments if word.endswith(".toml"))
    read_run(run_file, [word for word in arguments if "=" in word and not word.startswith("-")])
    return [*arguments, *smaller]


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C once a run of this folder has done a step."""
    while not any(read_lines(metrics) for metrics in Path("runs").glob("*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130, err
    assert "--resume" in err


def write_toml(text: str) -> None:
    tomllib.loads(text)
    name = re.match(r"# (\S+\.toml)\n", text)
    assert name, f"the first line of a toml block names its file:\n{text}"
    Path(name[1]).write_text(text)


def shrink_run_files(overrides: list[str]) -> None:
    for path in Path().glob("*.toml"):
        tables = tomllib.loads(path.read_text())
        apply_overrides(tables, overrides)
        path.write_text(tomli_w.dumps(tables))
