import pytest

from everyflop.train.simulated_device import SimulatedDevice


class Clocks:
    """Wall time and processor time, moved by hand; sleeping takes wall time."""

    def __init__(self):
        self.now_s = self.worked_s = 0.0

    def sleep(self, seconds):
        self.now_s += seconds

    def work(self, seconds, *, others=0.0):
        self.worked_s += seconds
        self.now_s += seconds + others


def spent(slowdown: float, worked: float, others: float = 0.0) -> float:
    clocks = Clocks()
    device = SimulatedDevice(slowdown, now_s=lambda: clocks.now_s, worked_s=lambda: clocks.worked_s, sleep=clocks.sleep)
    with device.work():
        clocks.work(worked, others=others)
    return clocks.now_s


def test_work_takes_a_multiple_of_the_processor_time_it_needs():
    assert spent(4.0, 0.5) == pytest.approx(2.0)


def test_a_device_as_fast_as_this_one_waits_for_nothing():
    assert spent(1.0, 0.5, others=0.1) == pytest.approx(0.6)


def test_what_other_processes_take_is_not_multiplied():
    assert spent(4.0, 0.5, others=1.0) == pytest.approx(2.0)
    assert spent(4.0, 0.5, others=3.0) == pytest.approx(3.5)
