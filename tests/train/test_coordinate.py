from everyflop.base.files import append_line, read_lines
from everyflop.spec.read import read_run
from everyflop.train.coordinate import Files
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
