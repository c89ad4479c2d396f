"""What is left of the time beside failures and exchanges, against published and hand-worked figures."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from everyflop.planner.choose.goodput import Failures, exchange_s, kept_after_exchanges, least_link_gbit_per_s


def test_ling_1t_saves_as_often_as_its_report_says():
    # A save of 30 s, and 0.63 failures a day on 2,016 devices: every 48 minutes.
    assert Failures(per_day=0.63, save_s=30, restart_s=0).best_interval_s == pytest.approx(48 * 60, rel=0.01)


def test_to_first_order_the_loss_is_saves_and_half_an_interval_and_restarts():
    # 0.1 failures a day, saves of 10 s: every 4,157 s; 10 / 4157 + 0.1 / 86400 x (4157 / 2 + 600) = 0.0055.
    rare = Failures(per_day=0.1, save_s=10, restart_s=600)

    assert 1 - rare.kept_share == pytest.approx(0.0055, rel=0.02)


def test_without_failures_nothing_is_saved_and_nothing_lost():
    never = Failures(per_day=0, save_s=30, restart_s=600)

    assert (never.best_interval_s, never.kept_share) == (inf, 1.0)


@given(st.floats(0, 1e6), st.floats(0, 3600), st.floats(0, 36000))
@example(5e-324, 0.0, 0.0)
@example(5e-324, 1.0, 0.0)
def test_what_is_left_is_a_share_of_the_time(per_day, save_s, restart_s):
    assert 0 <= Failures(per_day, save_s, restart_s).kept_share <= 1


@given(st.floats(1e-3, 1e3), st.floats(1.01, 10))
def test_more_failures_never_leave_more(per_day, factor):
    few, many = (Failures(rate, save_s=30, restart_s=600).kept_share for rate in (per_day, per_day * factor))

    assert many <= few


def test_the_whole_model_goes_to_the_coordinator_and_then_back():
    assert exchange_s(580, gbit_per_s=100, latency_s=0.5) == pytest.approx(46.4 + 0.5 + 46.4 + 0.5)


def test_an_exchange_as_long_as_the_round_halves_the_speed():
    assert kept_after_exchanges(1000, exchange_s=60, tokens_between=60_000) == pytest.approx(0.5)


def test_no_link_is_enough_where_latency_alone_costs_more():
    assert least_link_gbit_per_s(1.0, round_s=1.0, latency_s=0.05) is None
    assert least_link_gbit_per_s(1.0, round_s=10.0, latency_s=0.05)


@given(st.floats(1, 1e5), st.floats(1, 1e5))
def test_the_least_link_costs_a_twentieth_of_the_time(size_gb, round_s):
    stop_s = exchange_s(size_gb, gbit_per_s=least_link_gbit_per_s(size_gb, round_s=round_s))

    assert stop_s / (round_s + stop_s) == pytest.approx(0.05)
