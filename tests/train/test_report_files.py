import json

import pytest

from everyflop.base.errors import InvalidFile, UsageError
from everyflop.train.report_files import read_files
from everyflop.train.run_dir import RunDir

SUMMARY = {
    **{"schema": 1, "tokens": 1280, "steps": 5, "seconds": 10.0, "validation": {}, "device": "x", "precision": "fp32"},
    **{"parameters": 1, "active_parameters": 1, "sample": {}},
}


def test_a_run_that_has_just_begun_is_empty(make_run, run_dir):
    run_dir.write_run(make_run())
    files = read_files(run_dir)

    assert (files.metrics, files.events, files.rounds, files.summary, files.plan) == ([], [], [], None, None)
    assert (files.tokens, files.steps) == (0, 0)


def test_a_torn_last_line_is_of_a_run_under_way(two_islands):
    run_dir = two_islands()
    with run_dir.metrics.open("a") as file:
        file.write('{"step": 5, "tok')

    assert len(read_files(run_dir).metrics) == 7


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no run\.toml"):
        read_files(RunDir(tmp_path))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("metrics.jsonl", '{"step": 1', "metrics.jsonl, line 1: not JSON"),
        ("metrics.jsonl", '{"step": 1}', "metrics.jsonl, line 1: no tokens"),
        ("events.jsonl", '{"event": "save", "time": "noon"}', "events.jsonl, line 1: 'noon' is no time"),
        ("events.jsonl", "[]", "events.jsonl, line 1: no JSON object"),
        ("rounds.jsonl", '{"schema": 2}', "rounds.jsonl, line 1: schema 2"),
        ("summary.json", "{", "summary.json: not JSON"),
        ("summary.json", "{}", "summary.json: no tokens"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(two_islands, file, damage, message):
    run_dir = two_islands()
    (run_dir.path / file).write_text(damage + "\n")

    with pytest.raises(UsageError) as found:
        read_files(run_dir)
    assert message in str(found.value)


def test_a_damaged_part_of_a_commit_is_named(two_islands):
    run_dir = two_islands()
    rounds = run_dir.path / "rounds.jsonl"
    first, *others = rounds.read_text().splitlines()
    rounds.write_text("\n".join([first.replace('"train_s": 2.0', '"train_s": "long"'), *others, ""]))

    with pytest.raises(UsageError, match="line 1, members a: train_s is 'long'"):
        read_files(run_dir)


def test_a_damaged_plan_is_refused(two_islands):
    run_dir = two_islands()
    run_dir.plan.write_text('{"schema": 1}')

    with pytest.raises(InvalidFile, match=r"plan\.json"):
        read_files(run_dir)


@pytest.mark.parametrize(("tokens", "finished"), [(1280, True), (256, False)])
def test_a_summary_of_fewer_tokens_than_were_trained_is_of_an_earlier_end(two_islands, tokens, finished):
    run_dir = two_islands()
    run_dir.summary.write_text(json.dumps({**SUMMARY, "tokens": tokens}))

    assert (read_files(run_dir).summary is not None) is finished
