import dataclasses
import json
import re

import pytest

from everyflop.train.report import build_report
from everyflop.train.report_files import read_files
from everyflop.train.report_page import report_page
from everyflop.train.report_pictures import draw

PNG = b"\x89PNG\r\n\x1a\n"
NONE = dict.fromkeys(("loss", "speed", "timeline", "traffic"), b"")
SECTIONS = ["Facts", "Loss", "Speed", "Time line", "Traffic", "What the guards decided", "The bill"]


def page_of(run_dir, *, pictures=NONE) -> str:
    return report_page(build_report(read_files(run_dir)), pictures)


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


def rows(page: str, section: str) -> list[list[str]]:
    """Return the cells of a section's table."""
    part = page.split(f"<h2>{section}</h2>")[1].split("</section>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in part.split("<tr>")[2:]]


def test_every_section_is_there_and_the_page_needs_no_other_file(two_islands):
    run_dir = two_islands()
    page = page_of(run_dir, pictures=draw(build_report(read_files(run_dir))))

    assert headings(page) == SECTIONS
    assert page.count('src="data:image/png;base64,') == 4
    assert "http" not in re.sub('src="data[^"]*"', "", page)


def test_a_run_under_way_says_where_it_stands(two_islands):
    assert "Under way: this is how it stood after round 2, step 5." in page_of(two_islands())


def test_what_is_simulated_says_so(two_islands):
    page = page_of(two_islands())

    assert "b stands in for another device by waiting" in page
    assert "b (simulated)" in page
    assert "a (simulated)" not in page


def test_the_bill_shows_each_islands_price_cost_and_shares(two_islands):
    a, b, everything = rows(page_of(two_islands(money={"currency": "CNY", "example": True})), "The bill")

    assert a[:8] == ["a", "2 CNY (example)", "0.0025", "39 %", "0.005 CNY", "67 %", "960", "75 %"]
    assert b[:8] == ["b (simulated)", "1 CNY (example)", "0.0025", "67 %", "0.0025 CNY", "33 %", "320", "25 %"]
    assert everything[2:7] == ["0.005", "53 %", "0.0075 CNY", "", "1,280"]


def test_traffic_is_held_against_an_all_reduce_by_a_formula_on_the_page(two_islands):
    page = page_of(two_islands())

    assert "parameters x 4 bytes x 2 (M-1)/M x steps = 40,800 x 4 x 2 x 1/2 x 5 = 0.778 MiB" in page
    assert rows(page, "Traffic")[0] == ["a", "0.00286 MiB", "0.00572 MiB", "0.778 MiB", "272.00"]


def test_what_the_guards_decided_is_a_table(two_islands):
    files = read_files(two_islands())
    files.rounds[1]["members"]["b"] |= {"accepted": False, "why": "9 times <usual>"}
    page = report_page(build_report(files), NONE)

    assert rows(page, "What the guards decided") == [["round 1", "b", "rejected", "9 times &lt;usual&gt;"]]


def test_of_very_many_decisions_the_page_has_the_first_and_counts_the_others(two_islands):
    report = build_report(read_files(two_islands()))
    files = dataclasses.replace(report.files, metrics=[{**report.files.metrics[0], "fault": "loss nan"}] * 130)
    page = report_page(build_report(files), NONE)

    assert len(rows(page, "What the guards decided")) == 100
    assert "And 30 more" in page


def test_a_plan_has_a_section_of_its_own(two_islands, plan_for):
    run_dir = two_islands()
    run_dir.plan.write_text(json.dumps(plan_for(run_dir.read_run())))
    page = page_of(run_dir)
    speed, cost = rows(page, "Plan and run")

    assert speed == ["speed", "2.00 K tokens/s (1.00 K to 4.00 K)", "128 tokens/s", "0.06"]
    assert cost[2] == "0.0075 CNY"
    assert "So far; the run is under way." in page


@pytest.mark.parametrize("islands", [True, False])
def test_a_run_that_has_just_begun_has_a_page_and_pictures(two_islands, make_run, islands):
    run_dir = two_islands(rounds=[], metrics=[], events=[])
    if not islands:
        run_dir.write_run(make_run())
    report = build_report(read_files(run_dir))
    pictures = draw(report)

    assert headings(report_page(report, pictures)) == SECTIONS
    assert all(png.startswith(PNG) for png in pictures.values())


@pytest.mark.parametrize("lost", ["events", "rounds", "metrics"])
def test_a_run_directory_that_lacks_a_file_has_a_page_and_pictures(two_islands, lost):
    report = build_report(read_files(two_islands(**{lost: []})))

    assert headings(report_page(report, draw(report))) == SECTIONS


def test_steps_without_a_loss_or_a_price_are_drawn_as_what_they_are(two_islands):
    report = build_report(read_files(two_islands()))
    lines = [{**line, "loss": None, "cost": None} for line in report.files.metrics]
    pictures = draw(build_report(dataclasses.replace(report.files, metrics=lines)))

    assert pictures["loss"].startswith(PNG)
    assert pictures["loss"] != draw(report)["loss"]
