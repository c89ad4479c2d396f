import json

import pytest

from everyflop.train.summary import loss_picture, write_summary

FACTS = {
    "name": "tiny",
    "validation": {"held_out": {"loss": 1.25, "bits_per_byte": 0.75, "tokens": 10}},
    "parameters": 40_000,
    "active_parameters": 30_000,
    "steps": 2,
    "tokens": 512,
    "seconds": 2.0,
    "tokens_per_s": 256.0,
    "cost": 0.5,
    "currency": "CNY",
    "example_price": True,
    "device": "a processor",
    "precision": "fp32",
    "sample": {"prompt": "if a <", "text": " b & <script>alert(1)</script>"},
}
STEP = {"tokens_per_s": 256.0, "step_s": 1.0, "cost": 0.25, "island": "main"}
METRICS = [
    {"step": 1, "tokens": 256, "loss": 5.0, "seconds": 1.0, **STEP},
    {"step": 2, "tokens": 512, "loss": None, "seconds": 2.0, **STEP},
]
TIME = {"time": "2026-01-01T00:00:00+00:00"}
EVENTS = [
    {"event": "start", "step": 0, **TIME},
    {"event": "validation", "step": 2, "set": "held_out", "loss": 4.0, **TIME},
    {"event": "validation", "step": 9, "set": "held_out", "loss": 3.0, **TIME},  # of a step that was lost
]
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_loss_picture_is_a_png_even_where_steps_have_no_loss():
    assert loss_picture(METRICS, EVENTS).startswith(PNG)


def test_a_run_without_a_step_has_a_picture_too():
    assert loss_picture([], []).startswith(PNG)


def test_validations_change_the_picture():
    assert loss_picture(METRICS, EVENTS) != loss_picture(METRICS, [])


@pytest.fixture
def report_of(make_run, run_dir):
    """Return the report that stands at the end of a run with these facts."""
    run_dir.write_run(make_run(money={"price_per_device_hour": 900.0, "currency": "CNY", "example": True}))
    run_dir.metrics.write_text("".join(json.dumps(line) + "\n" for line in METRICS))

    def write(**facts):
        write_summary(run_dir, {**FACTS, **facts})
        return (run_dir.path / "report.html").read_text()

    return write


def test_the_report_shows_results_and_says_that_the_price_is_an_example(report_of):
    page = report_of()

    assert "loss 1.2500 nats a token" in page
    assert "0.7500 bits a byte" in page
    assert "0.5 CNY</b><span>at example prices" in page
    assert "Finished." in page


def test_the_report_of_a_planned_run_holds_it_against_the_plan(report_of):
    speed = {"predicted": {"p10": 100.0, "p50": 200.0, "p90": 400.0}, "measured": 300.0, "ratio": 1.5}
    cost = {"predicted": {"p10": 1.0, "p50": 2.0, "p90": 4.0}, "measured": 1.0, "ratio": 0.5}
    plan = {
        "currency": "CNY",
        "tokens_per_s": speed,
        "cost": cost,
        "tokens": {"planned": 9, "trained": 9},
        "others_share": 0.0,
    }
    page = report_of(plan=plan)

    assert '<td>200 tokens/s (100 to 400)</td><td class="n">300 tokens/s</td><td class="n">1.50</td>' in page
    assert '<td>2.00 CNY (1.00 CNY to 4.00 CNY)</td><td class="n">1.00 CNY</td><td class="n">0.50</td>' in page
    assert "Plan and run" not in report_of()
    assert "others used 48 %" in report_of(plan={**plan, "others_share": 0.48})


def test_generated_text_cannot_become_part_of_the_page(report_of):
    page = report_of()

    assert "<script>" not in page
    assert "if a &lt;<b> b &amp; &lt;script&gt;" in page


def test_the_summary_lies_beside_its_picture_and_report(make_run, run_dir):
    run_dir.write_run(make_run())
    run_dir.metrics.write_text("".join(json.dumps(line) + "\n" for line in METRICS))

    assert write_summary(run_dir, FACTS) == {"schema": 1, **FACTS}
    assert json.loads(run_dir.summary.read_text()) == {"schema": 1, **FACTS}
    assert (run_dir.path / "loss.png").read_bytes().startswith(PNG)
    assert "<h1>Run tiny</h1>" in (run_dir.path / "report.html").read_text()


def test_a_summary_appears_only_when_everything_else_is_written(make_run, run_dir):
    run_dir.write_run(make_run())
    (run_dir.path / "report.html").mkdir()  # which no file can replace

    with pytest.raises(OSError):
        write_summary(run_dir, FACTS)
    assert not run_dir.summary.exists()
