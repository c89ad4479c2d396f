"""What the tests of training share: a tiny run, settled, on the processor."""

import signal
from collections.abc import Callable, Iterator

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
def run_dir(tmp_path) -> RunDir:
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")
