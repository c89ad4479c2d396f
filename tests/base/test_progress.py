import io

from everyflop.base.progress import progress, quiet


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_terminal_a_line_says_what_begins_and_one_what_was_done():
    out = io.StringIO()
    with progress("Tokenising", total=2000, unit="files", stream=out, now_s=Clock()) as bar:
        bar.advance(1999)
        bar.advance()

    assert out.getvalue() == "Tokenising: 2,000 files\nTokenising: 2,000 files in 0 s\n"


def test_without_a_terminal_lines_are_at_least_five_seconds_apart():
    out, clock = io.StringIO(), Clock()
    with progress("Reading", total=100, unit="files", stream=out, now_s=clock) as bar:
        for _ in range(12):
            clock.now_s += 1
            bar.advance()

    in_between = out.getvalue().splitlines()[1:-1]
    assert [line.split(",")[0] for line in in_between] == ["Reading: 5 of 100 files", "Reading: 10 of 100 files"]


def test_a_line_tells_the_time_left_at_the_speed_so_far():
    out, clock = io.StringIO(), Clock()
    with progress("Reading", total=100, unit="files", stream=out, now_s=clock) as bar:
        clock.now_s = 10
        bar.advance(25)

    assert "Reading: 25 of 100 files, 30 s left" in out.getvalue()  # 75 files at 2.5 files a second


def test_a_failed_operation_is_not_reported_as_done():
    out = io.StringIO()
    try:
        with progress("Reading", total=3, unit="files", stream=out, now_s=Clock()):
            raise KeyError
    except KeyError:
        pass

    assert out.getvalue() == "Reading: 3 files\n"


def test_a_terminal_gets_a_bar_with_counts():
    out = Terminal()
    with progress("Reading", total=3, unit="files", stream=out) as bar:
        bar.advance(3)

    assert "3/3" in out.getvalue()


def test_a_title_with_brackets_is_shown_as_it_is():
    out = Terminal()
    with progress("Reading [/inst]", total=3, unit="files", stream=out) as bar:
        bar.advance(3)

    assert "Reading [/inst]" in out.getvalue()


def test_a_bar_of_bytes_counts_in_a_unit_that_fits():
    out = Terminal()
    with progress("Checking", total=3 * 2**30, unit="bytes", stream=out) as bar:
        bar.advance(3 * 2**30)

    assert "3.0/3.0 GiB" in out.getvalue()


def test_quiet_shows_nothing(capsys):
    with quiet("Reading", total=3, unit="files") as bar:
        bar.advance(3)

    assert capsys.readouterr() == ("", "")
