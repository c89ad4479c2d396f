import os
import signal
import threading

import pytest

from everyflop.train.stop import StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_without_a_signal_nothing_asks_to_stop():
    with StopRequest() as stop:
        pass

    assert stop.signal is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_and_interrupts_nothing(number):
    with StopRequest() as stop:
        send(number)

    assert stop.signal == number


def test_a_second_ctrl_c_stops_at_once():
    with StopRequest():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_second_sigterm_does_not_hurry():
    with StopRequest() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)

    assert stop.signal == signal.SIGTERM


def test_after_the_block_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        pass

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_signals_are_left_alone():
    stops = []

    def block():
        with StopRequest() as stop:
            stops.append(stop.signal)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()

    assert stops == [None]
