import json
import math

import pytest
from torch.utils.tensorboard import SummaryWriter

from everyflop.base.files import read_lines
from everyflop.train.telemetry import Telemetry


@pytest.fixture
def telemetry(run_dir) -> Telemetry:
    return Telemetry(run_dir, now_s=lambda: 1_700_000_000.5)


def steps_of(run_dir) -> list[int]:
    return [line["step"] for line in read_lines(run_dir.metrics)]


def record(telemetry: Telemetry, *steps: int) -> None:
    for step in steps:
        telemetry.step({"step": step, "loss": 1.0 / step})


def test_each_step_is_one_line_with_a_schema(telemetry, run_dir):
    telemetry.step({"step": 1, "loss": 2.5, "island": "main"})

    assert read_lines(run_dir.metrics) == [{"schema": 1, "step": 1, "loss": 2.5, "island": "main"}]


def test_numbers_that_json_lacks_become_null(telemetry, run_dir):
    telemetry.step({"step": 1, "loss": math.nan, "grad_norm": math.inf})
    telemetry.event("skip", loss=-math.inf)

    assert json.loads(run_dir.metrics.read_text(), parse_constant=pytest.fail)["grad_norm"] is None
    assert json.loads(run_dir.events.read_text(), parse_constant=pytest.fail)["loss"] is None


def test_an_event_has_its_kind_its_time_and_its_facts(telemetry, run_dir):
    telemetry.event("save", step=7)

    expected = {"schema": 1, "time": "2023-11-14T22:13:20.500+00:00", "event": "save", "step": 7}
    assert read_lines(run_dir.events) == [expected]


def test_after_a_rewind_each_step_is_there_once(telemetry, run_dir):
    record(telemetry, 1, 2, 3, 4, 5)
    lost = telemetry.rewind(3)
    record(telemetry, 4, 5, 6)

    assert [line["step"] for line in lost] == [4, 5]
    assert steps_of(run_dir) == [1, 2, 3, 4, 5, 6]


def test_a_rewind_to_the_start_leaves_no_step(telemetry, run_dir):
    record(telemetry, 1, 2)
    telemetry.rewind(0)

    assert steps_of(run_dir) == []


def test_a_rewind_keeps_lines_as_they_were(telemetry, run_dir):
    telemetry.step({"step": 1, "loss": 0.1 + 0.2, "cost": None, "island": "haupt-é"})
    before = run_dir.metrics.read_bytes()
    telemetry.rewind(1)

    assert run_dir.metrics.read_bytes() == before


def test_a_torn_last_line_is_dropped_by_a_rewind(telemetry, run_dir):
    record(telemetry, 1, 2)
    with run_dir.metrics.open("a") as file:
        file.write('{"schema": 1, "step": 3, "lo')
    telemetry.rewind(2)
    record(telemetry, 3)

    assert steps_of(run_dir) == [1, 2, 3]


def test_a_run_without_metrics_has_nothing_to_rewind(telemetry, run_dir):
    assert telemetry.rewind(0) == []
    assert not run_dir.metrics.exists()


def test_tensorboard_gets_every_number_but_not_the_axes(telemetry, run_dir, monkeypatch):
    points = []
    monkeypatch.setattr(SummaryWriter, "add_scalar", lambda _, tag, value, step: points.append((tag, value, step)))
    telemetry.open_board(after_step=0)
    telemetry.step({"step": 4, "tokens": 8, "loss": 2.5, "cost": None, "island": "main"})
    telemetry.close()

    assert points == [("train/loss", 2.5, 4)]
    assert list((run_dir.path / "tensorboard").iterdir())


def test_a_tracker_that_raises_is_reported_once_and_never_stops_the_run(telemetry, run_dir, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(SummaryWriter, "add_scalar", broken)
    telemetry.open_board(after_step=0)
    record(telemetry, 1, 2, 3)
    telemetry.close()

    assert steps_of(run_dir) == [1, 2, 3]
    (event,) = read_lines(run_dir.events)
    assert (event["event"], event["tracker"]) == ("tracker_failed", "tensorboard")
    assert "no space left" in event["cause"]


def test_a_tracker_that_cannot_start_never_stops_the_run(telemetry, run_dir):
    (run_dir.path / "tensorboard").write_text("a file where its folder should be")
    telemetry.open_board(after_step=0)
    record(telemetry, 1)
    telemetry.close()

    assert steps_of(run_dir) == [1]
    assert [event["event"] for event in read_lines(run_dir.events)] == ["tracker_failed"]
