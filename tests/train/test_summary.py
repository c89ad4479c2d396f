import base64
import json

import pytest

from everyflop.train.summary import loss_picture, report_page, write_summary

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
METRICS = [{"step": 1, "tokens": 256, "loss": 5.0}, {"step": 2, "tokens": 512, "loss": None}]
EVENTS = [
    {"event": "start", "step": 0},
    {"event": "validation", "step": 2, "set": "held_out", "loss": 4.0},
    {"event": "validation", "step": 9, "set": "held_out", "loss": 3.0},  # of a step that was lost
]
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_loss_picture_is_a_png_even_where_steps_have_no_loss():
    assert loss_picture(METRICS, EVENTS).startswith(PNG)


def test_a_run_without_a_step_has_a_picture_too():
    assert loss_picture([], []).startswith(PNG)


def test_validations_change_the_picture():
    assert loss_picture(METRICS, EVENTS) != loss_picture(METRICS, [])


def test_the_report_needs_no_other_file():
    page = report_page(FACTS, b"picture")

    assert f'src="data:image/png;base64,{base64.b64encode(b"picture").decode()}"' in page
    assert "http" not in page


def test_the_report_shows_results_and_says_that_the_price_is_an_example():
    page = report_page(FACTS, b"")

    assert "loss 1.2500, 0.7500 bits per byte" in page
    assert "0.5 CNY (at an example price)" in page
    assert "no price given" in report_page({**FACTS, "cost": None}, b"")


def test_the_report_of_a_planned_run_holds_it_against_the_plan():
    speed = {"predicted": {"p10": 100.0, "p50": 200.0, "p90": 400.0}, "measured": 300.0, "ratio": 1.5}
    cost = {"predicted": {"p10": 1.0, "p50": 2.0, "p90": 4.0}, "measured": 1.0, "ratio": 0.5}
    plan = {
        "currency": "CNY",
        "tokens_per_s": speed,
        "cost": cost,
        "tokens": {"planned": 9, "trained": 9},
        "others_share": 0.0,
    }
    page = report_page({**FACTS, "plan": plan}, b"")

    assert "predicted 200 tokens/s (100 to 400); measured 300 tokens/s, 1.50 times that" in page
    assert "predicted 2.00 CNY (1.00 CNY to 4.00 CNY); measured 1.00 CNY, 0.50 times that" in page
    assert "predicted" not in report_page(FACTS, b"")
    assert "others used 48 %" in report_page({**FACTS, "plan": {**plan, "others_share": 0.48}}, b"")


def test_generated_text_cannot_become_part_of_the_page():
    page = report_page(FACTS, b"")

    assert "<script>" not in page
    assert "if a &lt;<b> b &amp; &lt;script&gt;" in page


def test_the_summary_lies_beside_its_picture_and_report(run_dir):
    run_dir.metrics.write_text("".join(json.dumps(line) + "\n" for line in METRICS))

    assert write_summary(run_dir, FACTS) == {"schema": 1, **FACTS}
    assert json.loads(run_dir.summary.read_text()) == {"schema": 1, **FACTS}
    assert (run_dir.path / "loss.png").read_bytes().startswith(PNG)
    assert "<h1>tiny</h1>" in (run_dir.path / "report.html").read_text()


def test_a_summary_appears_only_when_everything_else_is_written(run_dir):
    (run_dir.path / "report.html").mkdir()  # which no file can replace

    with pytest.raises(OSError):
        write_summary(run_dir, FACTS)
    assert not run_dir.summary.exists()
