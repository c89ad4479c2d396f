import io

from everyflop.train.display import Display, describe

LINE = {"step": 12, "tokens": 3072, "loss": 5.4321, "tokens_per_s": 1234.0, "mfu": 0.256, "cost": 0.0123}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(line_times: list[tuple[int, float]], *, total: int = 10_000, done: int = 0) -> list[str]:
    """Return what a stream that is no terminal gets for steps after `tokens` at `now_s`."""
    clock, stream = [0.0], io.StringIO()
    with Display(total, done, "USD", stream=stream, now_s=lambda: clock[0]) as display:
        for tokens, now_s in line_times:
            clock[0] = now_s
            display.step({**LINE, "tokens": tokens})
    return stream.getvalue().splitlines()


def test_a_step_is_described_in_one_line():
    assert describe(LINE, "USD") == ("step 12 | 3.07 K tokens | loss 5.432 | 1.23 K tokens/s | MFU 26 % | 0.012 USD")


def test_without_a_price_no_cost_is_shown():
    assert describe({**LINE, "cost": None}, "USD").endswith("MFU 26 %")


def test_without_a_terminal_a_plain_line_comes_every_five_seconds():
    lines = shown([(1000, 1.0), (2000, 2.0), (3000, 5.9), (4000, 6.0), (5000, 10.9), (6000, 11.0)])

    assert [line.split(" | ")[1] for line in lines] == ["1.00 K tokens", "4.00 K tokens", "6.00 K tokens"]


def test_the_last_step_is_always_shown():
    assert len(shown([(1000, 1.0), (9000, 2.0), (10_000, 2.1)])) == 2


def test_time_left_comes_from_the_speed_so_far():
    (line,) = shown([(2500, 10.0)])

    assert line.endswith("10 s | 30 s left")  # 7,500 tokens at 250 a second


def test_after_a_resume_the_speed_is_that_of_this_process():
    (line,) = shown([(2500, 6.0)], done=2000)

    assert line.endswith("6 s | 1 min 30 s left")  # 7,500 tokens at 500 in 6 s


def test_on_a_terminal_one_line_is_redrawn_and_notes_stay():
    stream = Terminal()
    with Display(10_000, 0, "USD", stream=stream) as display:
        display.step({**LINE, "tokens": 5000})
        display.note("halfway there")

    assert "loss 5.432" in stream.getvalue()
    assert "halfway there" in stream.getvalue()


def test_without_a_terminal_notes_are_plain_lines():
    stream = io.StringIO()
    with Display(10_000, 0, "USD", stream=stream) as display:
        display.note("a note")

    assert stream.getvalue() == "a note\n"


def test_on_a_terminal_the_time_left_is_told_however_long_steps_are():
    clock = [0.0]
    with Display(10_000, 0, "USD", stream=Terminal(), now_s=lambda: clock[0]) as display:
        for tokens in (1000, 2000, 3000):
            clock[0] += 40.0
            display.step({**LINE, "tokens": tokens})
        (task,) = display._live.tasks

        assert task.time_remaining == 280.0  # 7,000 tokens at 1,000 in 40 s
