import pytest

from everyflop.islands.link import Link


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


def link(clock: Clock, **how: float) -> Link:
    return Link(**how, now_s=lambda: clock.now_s, sleep=clock.sleep)


def test_bytes_take_their_number_over_the_bandwidth():
    clock = Clock()
    link(clock, gbit_per_s=0.008).pace("up", 3_000_000)  # 1 MB/s

    assert clock.slept_s == [pytest.approx(3.0)]


def test_chunks_take_as_long_as_one_piece():
    clock = Clock()
    slow = link(clock, gbit_per_s=0.008)
    for _ in range(30):
        slow.pace("up", 100_000)

    assert clock.now_s == pytest.approx(1003.0)


def test_two_directions_do_not_share_bandwidth():
    clock = Clock()
    slow = link(clock, gbit_per_s=0.008)
    slow.pace("up", 1_000_000)
    clock.now_s -= 1  # at the same time
    slow.pace("down", 1_000_000)

    assert clock.slept_s == [pytest.approx(1.0), pytest.approx(1.0)]


def test_two_senders_share_the_bandwidth_of_a_direction():
    clock = Clock()
    slow = link(clock, gbit_per_s=0.008)
    slow.pace("up", 1_000_000)
    clock.now_s -= 1  # another thread sends at the same time
    slow.pace("up", 1_000_000)

    assert clock.slept_s == [pytest.approx(1.0), pytest.approx(2.0)]


def test_an_idle_link_saves_no_bandwidth_up():
    clock = Clock()
    slow = link(clock, gbit_per_s=0.008)
    slow.pace("up", 1_000_000)
    clock.now_s += 500
    slow.pace("up", 1_000_000)

    assert clock.slept_s[1] == pytest.approx(1.0)


def test_latency_is_paid_once_a_message():
    clock = Clock()
    far = link(clock, latency_ms=250)
    far.message()
    far.pace("up", 10**9)

    assert clock.slept_s == [0.25]


def test_a_link_without_limits_never_waits():
    clock = Clock()
    free = link(clock)
    free.message()
    free.pace("down", 10**12)

    assert clock.slept_s == []
