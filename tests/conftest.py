"""A run so small that all of it takes about a second, and two ways to start it: here, or in a process of its own."""

import contextlib
import copy
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from hypothesis import settings

if TYPE_CHECKING:
    from everyflop.spec.run import RunSpec

settings.register_profile("quick", max_examples=40, deadline=None)  # a busy machine is no failure
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile("quick")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in a shell's background, and so would all commands be
    signal.signal(signal.SIGINT, signal.default_int_handler)

TABLES: dict[str, dict[str, Any]] = {
    "run": {"name": "tiny", "threads": 1},
    "model": {
        "family": "ling-v2",
        "hidden": 32,
        "n_layers": 2,
        "dense_layers": [0],
        "dense_width": 64,
        "n_heads": 2,
        "n_kv_heads": 1,
        "head_dim": 16,
        "n_experts": 4,
        "experts_per_token": 2,
        "expert_width": 16,
        "n_shared_experts": 1,
        "max_positions": 64,
    },
    "data": {"vocab_size": 320, "held_out_share": 0.2},
    "train": {"tokens": 3072, "seq_len": 32, "batch_tokens": 256, "micro_batch": 4, "precision": "fp32"},
    "optim": {"lr": 1e-2},
    "checkpoint": {"every_steps": 4, "keep": 2},
}
"""Twelve steps of eight windows, with checkpoints after steps 4, 8 and 12."""

PLAN: dict[str, Any] = {
    "schema": 1,
    "objective": "cost",
    "currency": "CNY",
    "fleet": "laptop.toml",
    "limits": {},
    "recommended": "laptop alone",
    "why": "it is the only pool",
    "islands": [
        {
            "name": "laptop",
            "pool": "laptop",
            "device": "cpu",
            "torch_device": "cpu",
            "devices": 1,
            "layout": {"sharding": "none", "micro_batch": 2, "recompute": "full"},
            "micro_batch": 2,
            "batch_seqs": 8,
            "tokens_per_s": {"p10": 1000.0, "p50": 2000.0, "p90": 4000.0},
            "goodput_share": 1.0,
            "share": 1.0,
            "price_per_device_hour": 36.0,
            "example_price": True,
            "cost": {"p10": 0.01, "p50": 0.02, "p90": 0.04},
            "cost_per_ttoken": {"p10": 1.0, "p50": 2.0, "p90": 4.0},
            "mfu": 0.1,
            "mem_gib": {"weights": 0.1},
            "mem_limit_gib": 1.0,
            "step_s": {"matmul": 0.1},
            "basis": "measured",
        }
    ],
    "total": {
        "tokens_per_s": {"p10": 1000.0, "p50": 2000.0, "p90": 4000.0},
        "days": {"p10": 0.1, "p50": 0.2, "p90": 0.4},
        "cost": {"p10": 0.01, "p50": 0.02, "p90": 0.04},
        "cost_per_ttoken": {"p10": 1.0, "p50": 2.0, "p90": 4.0},
        "devices": 1,
        "token_efficiency": 1.0,
    },
    "exchange": {"steps_between": 1, "bytes_per_parameter": 2.0, "extra_tokens_share": {}, "source": "a test"},
    "launch": "everyflop train run.toml --plan plan.json",
}
"""A plan for one processor; its workload is that of the run it is made for, and it compares nothing else."""

SENTENCE = "the quick brown fox jumps over lazy dog while seven wizards vex sphinx of black quartz judge my vow"

LAUNCH = (
    "import everyflop.train.first_screen as screen; screen.MEASURE_S = 0.0;"  # two seconds that no test needs
    "from everyflop.cli.main import main; main()"
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class Recorder:
    """Stands where a progress display goes and keeps what it is told: [title, total, unit, units done] each."""

    def __init__(self):
        self.shown: list[list[Any]] = []

    @contextlib.contextmanager
    def __call__(self, title: str, *, total: int, unit: str) -> Iterator["Recorder"]:
        self.shown.append([title, total, unit, 0])
        yield self

    def advance(self, count: int = 1) -> None:
        self.shown[-1][3] += count


@pytest.fixture
def recorder() -> Recorder:
    """A progress display for a function under test; `recorder.shown` tells what it would have shown."""
    return Recorder()


@pytest.fixture(scope="session")
def stories(tmp_path_factory) -> Path:
    """A folder of 40 small texts."""
    folder = tmp_path_factory.mktemp("stories")
    rng = random.Random(1)
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(" ".join(rng.choices(SENTENCE.split(), k=150)) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_tables(stories, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Return the tiny run's tables with changes: tables(train={"tokens": 512}). A value of None takes the key out.

    Prepared data is shared by all tests; runs go nowhere until run.out_dir says so.
    """
    prepared = tmp_path_factory.mktemp("prepared")

    def tables(*, island: list[dict[str, Any]] | None = None, **changes: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = copy.deepcopy(TABLES)
        made["data"] |= {"sources": str(stories), "prepared_dir": str(prepared)}
        if island:
            made["island"] = island
        for table, fields in changes.items():
            merged = {**made.get(table, {}), **fields}
            made[table] = {key: value for key, value in merged.items() if value is not None}
        return made

    return tables


@pytest.fixture(scope="session")
def write_run_file(tiny_tables) -> Callable[..., Path]:
    """Write a tiny run file into a folder, beside which the run will write: write_run_file(folder, train={...})."""

    def write(folder: Path, **changes: Any) -> Path:
        changes["run"] = {"out_dir": str(folder / "runs"), **changes.get("run", {})}
        path = folder / "run.toml"
        path.write_text(tomli_w.dumps(tiny_tables(**changes)))
        return path

    return write


@pytest.fixture(scope="session")
def plan_for() -> Callable[..., dict[str, Any]]:
    """Make the plan.json of a run: plan_for(run, island={"devices": 2}, currency="CNY") on one device.

    With islands={"a": {}, "b": {"micro_batch": 4}} it is on those.
    """

    def make(
        run: "RunSpec",
        *,
        island: dict[str, Any] | None = None,
        islands: dict[str, dict[str, Any]] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        train = run.train
        plan = copy.deepcopy(PLAN)
        plan["workload"] = {
            "name": run.run.name,
            "model": run.model.model_dump() if run.model else None,
            "tokens": train.tokens,
            "seq_len": train.seq_len,
            "batch_tokens": train.batch_tokens,
        }
        plan["islands"][0] |= island or {}
        if islands:
            plan["recommended"] = " + ".join(islands)
            plan["islands"] = [{**plan["islands"][0], "name": n, "pool": n, **facts} for n, facts in islands.items()]
        kind = "mix" if islands else "single"
        chosen = {"name": plan["recommended"], "kind": kind, "meets_limits": True}
        plan["alternatives"] = [{**chosen, "islands": plan["islands"], "total": plan["total"]}]
        return {**plan, **changes}

    return make


@pytest.fixture(scope="session")
def everyflop() -> Callable[..., Outcome]:
    """Run an `everyflop` command in this process, through the same `main` as the installed one."""

    def call(*arguments: object) -> Outcome:
        from everyflop.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr("sys.argv", ["everyflop", *map(str, arguments)])
            patch.setattr("everyflop.train.first_screen.MEASURE_S", 0.0)
            with pytest.raises(SystemExit) as leaving:
                main()
        signal.signal(signal.SIGTERM, handler)
        code = leaving.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def start_everyflop() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an `everyflop` command in a process of its own; it is killed if the test leaves it behind."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        # Waiting threads sleep instead of spinning: other tests may need the cores. No bit of a result depends on it.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-c", LAUNCH, *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
