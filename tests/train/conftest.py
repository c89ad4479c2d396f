"""What the tests of training share: a tiny run, settled, on the processor."""

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from everyflop.backend.device import Device
from everyflop.spec.read import parse_run
from everyflop.spec.run import RunSpec
from everyflop.train.run_dir import RunDir
from everyflop.train.settings import Settled, settle


@pytest.fixture(autouse=True)
def _no_stray_sigterm() -> Iterator[None]:
    """A SIGTERM that the code under test lets through fails the test; it would end pytest otherwise."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("SIGTERM was not caught"))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def device() -> Device:
    return Device("cpu", "a processor", fast_bf16=False)


@pytest.fixture
def make_run(tiny_tables, tmp_path) -> Callable[..., RunSpec]:
    """Build a tiny run that writes to tmp_path/runs, with changes: make_run(train={"tokens": 512})."""

    def make(**changes) -> RunSpec:
        changes["run"] = {"out_dir": str(tmp_path / "runs"), **changes.get("run", {})}
        run, problems = parse_run(tiny_tables(**changes))
        assert run is not None, problems
        return run

    return make


@pytest.fixture
def make_settled(make_run, device) -> Callable[..., Settled]:
    def make(**changes) -> Settled:
        run = make_run(**changes)
        return settle(run, run.model, device)

    return make


@pytest.fixture
def islands_run(make_settled):
    def make(
        *names: str,
        steps=1,
        tokens=256 * 50,
        slow=1.0,
        numerics="own",
        clip=1.0,
        schedule="cosine",
        **islands,
    ) -> Settled:
        other = {"slowdown": slow, "numerics": numerics}
        tables = [{"name": name, **({} if name == "a" else other)} for name in names]
        router = {"balance_loss": 1e-2, "z_loss": 1e-3, "bias_update": 1e-3, "noise_warmup_steps": 5}
        return make_settled(
            train={"tokens": tokens, "compile": "off"},
            optim={"clip": clip, "schedule": schedule},
            router=router,
            island=tables,
            islands={"steps": steps, **islands},
        )

    return make


@pytest.fixture
def run_dir(tmp_path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def _event(at_s: float, kind: str, **facts: Any) -> dict[str, Any]:
    return {"schema": 1, "time": f"2026-01-01T00:00:{at_s:06.3f}+00:00", "event": kind, **facts}


def _step(number: int, round_number: int, island: str, **facts: Any) -> dict[str, Any]:
    fixed = {"schema": 1, "step": number, "tokens": 256 * number, "loss": 5.0 - number, "tokens_per_s": 128.0}
    return {**fixed, "step_s": 1.0, "seconds": 9.0, "cost": 0.0025, "island": island, "round": round_number, **facts}


def _round(number: int, held_s: tuple[float, float], train_s: tuple[float, float], **facts: Any) -> dict[str, Any]:
    """Return a commit of the islands a and b, which were held that long so far and trained that long in the round."""
    tokens, names = 512 * number + 256, ("a", "b")
    counted = {"steps": 2 * number + 1, "rounds": number + 1, "joins": 2 if number == 2 else 1, "rejected": 0}
    moved = {"sent_bytes": 1000 * (number + 1), "received_bytes": 2000 * (number + 1)}
    trained = {"a": (2.0, 3.5, 5.5), "b": (1.0, 2.0, 3.0)}
    account = {name: {**counted, **moved, "train_s": trained[name][number]} for name in names}
    shares = {"a": tokens * 3 // 4, "b": tokens // 4}
    member = {"steps": 1, "tokens": 128, "accepted": True, "why": ""}
    return {
        **{"schema": 1, "round": number, "exchange": "gradients" if number == 0 else "weights", "applied": True},
        **{"seconds": 2.0, "step": 2 * number + 1, "tokens": tokens},
        **{"time": f"2026-01-01T00:00:{(4, 6, 16)[number]:02d}+00:00", "busy_s": (4.0, 6.0, 10.0)[number]},
        "members": {name: {**member, "train_s": s} for name, s in zip(names, train_s, strict=True)},
        "accounts": {
            name: {**account[name], "held_s": s, "tokens": shares[name]} for name, s in zip(names, held_s, strict=True)
        },
        **facts,
    }


@pytest.fixture
def two_islands(make_run, run_dir) -> Callable[..., RunDir]:
    """Write the directory of a run with the islands a and b (simulated) under way: commits after 4, 6 and 16 seconds.

    Before the last all were away, from second 6 on: the coordinator was killed. `changes` are other lines of a file.
    """
    islands = [
        {"name": "a", "price_per_device_hour": 2.0},
        {"name": "b", "price_per_device_hour": 1.0, "slowdown": 2.0},
    ]
    files: dict[str, list[dict[str, Any]]] = {
        "events": [
            *(_event(0, "join", island="b", round=0), _event(1, "join", island="a", round=0)),
            *(_event(5, "save", island="a", step=3), _event(10, "restart", process="coordinator", code=-9)),
            *(_event(12, "join", island="a", round=2), _event(13, "join", island="b", round=2)),
        ],
        "rounds": [
            _round(0, (3.0, 4.0), (2.0, 1.0)),
            _round(1, (5.0, 6.0), (1.5, 1.0)),
            _round(2, (9.0, 9.0), (2.0, 1.0)),
        ],
        "metrics": [
            *(_step(1, 0, "a", cost=0.001), _step(1, 0, "b", cost=0.001)),
            *(_step(2, 1, "a", cost=0.002), _step(2, 1, "b", cost=0.002), _step(3, 1, "a", cost=0.002)),
            *(_step(4, 2, "a", cost=0.004), _step(4, 2, "b", cost=0.004, loss=None)),
        ],
    }

    def write(money: dict[str, Any] | None = None, **changes: list[dict[str, Any]]) -> RunDir:
        run_dir.write_run(make_run(island=islands, islands={"steps": 4, "sync_share": 0.1}, money=money or {}))
        for name, lines in {**files, **changes}.items():
            (run_dir.path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run_dir

    return write
