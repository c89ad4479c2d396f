"""`everyflop report`: a page and pictures of a run, and what it says of a folder that holds none."""

import shutil

import pytest


@pytest.fixture(scope="module")
def finished(everyflop, write_run_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    ended = everyflop("train", write_run_file(folder, money={"price_per_device_hour": 7.2, "currency": "CNY"}))

    assert ended.code == 0, ended.err
    return folder / "runs" / "tiny"


def test_the_report_of_a_finished_run_lies_in_its_directory_and_is_the_one_that_training_wrote(finished, everyflop):
    written = (finished / "report.html").read_text()
    ended = everyflop("report", finished)

    assert (ended.code, ended.err) == (0, "")
    assert str(finished / "report.html") in ended.out
    assert (finished / "report.html").read_text() == written


def test_page_and_pictures_go_where_they_are_asked_to(finished, everyflop, tmp_path):
    ended = everyflop("report", finished, "--out", tmp_path / "r.html", "--png", tmp_path / "pictures")

    assert ended.code == 0, ended.err
    assert "<h1>Run tiny</h1>" in (tmp_path / "r.html").read_text()
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        *("report-loss.png", "report-speed.png", "report-timeline.png")  # one process has no traffic
    }


def test_a_run_is_compared_with_a_control(finished, everyflop, tmp_path):
    ended = everyflop("report", finished, "--against", finished, "--out", tmp_path / "r.html")

    assert ended.code == 0, ended.err
    assert f"Against {finished}" in (tmp_path / "r.html").read_text()


def test_a_run_under_way_has_a_report(finished, everyflop, tmp_path):
    shutil.copytree(finished, tmp_path / "tiny")
    (tmp_path / "tiny" / "summary.json").unlink()

    assert everyflop("report", tmp_path / "tiny").code == 0
    assert "Under way: this is how it stood after step 12." in (tmp_path / "tiny" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere has no run.toml"),
        (["RUN", "--against", "nowhere"], "nowhere has no run.toml"),
        (["RUN", "--out", "missing/r.html"], "there is no folder 'missing'"),
        (["RUN", "--out", "RUN/metrics.jsonl"], "is read, and would be overwritten"),
        (["RUN", "--png", "missing/pictures"], "missing/pictures"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    finished, everyflop, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    ended = everyflop("report", *(text.replace("RUN", str(finished)) for text in arguments))

    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_named(finished, everyflop, tmp_path):
    shutil.copytree(finished, tmp_path / "tiny")
    (tmp_path / "tiny" / "metrics.jsonl").write_text("{}\n")
    ended = everyflop("report", tmp_path / "tiny")

    assert ended.code == 2
    assert "metrics.jsonl, line 1: no step. Restore the file from a copy." in ended.err
