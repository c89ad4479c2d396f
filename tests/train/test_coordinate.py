import socket

import pytest

from everyflop.base.errors import UsageError
from everyflop.base.files import append_line, read_lines
from everyflop.spec.read import read_run
from everyflop.train.coordinate import Files, asked_of, coordinate
from everyflop.train.run_dir import RunDir


def test_metrics_of_rounds_that_are_done_again_are_dropped_and_those_of_before_there_were_islands(
    write_run_file, tmp_path
):
    run = read_run(write_run_file(tmp_path))
    run_dir = RunDir(tmp_path)
    for line in ({"step": 1}, {"step": 1, "round": 0}, {"step": 2, "round": 1}):
        append_line(run_dir.metrics, line)

    Files(run, run_dir).rewound(1)

    assert read_lines(run_dir.metrics) == [{"step": 1, "round": 0}]


def test_islands_must_be_what_the_run_file_says_and_settle_what_it_leaves_open(make_run):
    asked = asked_of(make_run(train={"batch_tokens": None}, optim={"lr": None}))

    assert (asked["train"]["tokens"], asked["seed"]) == (3072, make_run().run.seed)
    assert "batch_tokens" not in asked["train"]
    assert "lr" not in asked["optim"]


def test_a_port_that_is_taken_is_refused_and_leaves_the_run_unbegun(make_run):
    run = make_run()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"nobody can listen at 127\.0\.0\.1:{port}: .* --port"):
            coordinate(run, "127.0.0.1", port, b"secret")

    assert not run.dir.exists()
