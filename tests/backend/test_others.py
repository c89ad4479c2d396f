import os
import subprocess
import sys

import pytest

from everyflop.backend import others
from everyflop.backend.others import ProcessorUse, is_disturbed, others_share, processor_use

STAT = """cpu  1000 0 500 9000 100 0 0 0 0 0
cpu0 600 10 200 4000 50 5 5 80 40 3
cpu1 400 0 300 5000 50 0 0 0 0 0
intr 12345
"""


@pytest.fixture
def stat(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(others, "STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "sysconf", lambda _: 100)


def test_all_but_idle_and_waiting_for_a_disk_is_busy(stat, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    # User, nice, system, two kinds of interrupts, and what another virtual machine got; guests are in user already.
    assert processor_use().everybody_s == (600 + 10 + 200 + 5 + 5 + 80) / 100


def test_only_processors_that_this_process_may_use_count(stat, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})

    assert processor_use().everybody_s == 7.0


def test_a_system_that_tells_nothing_leaves_it_open(tmp_path, monkeypatch):
    monkeypatch.setattr(others, "STAT", tmp_path / "missing")

    assert processor_use() is None
    assert others_share(None, None) is None


@pytest.mark.parametrize(
    ("everybody_s", "own_s", "share"),
    [(12.0, 12.0, 0.0), (18.0, 12.0, 0.3), (20.0, 0.0, 1.0), (11.9, 12.0, 0.0)],
)
def test_others_have_what_is_used_and_not_ones_own(monkeypatch, everybody_s, own_s, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    before, after = ProcessorUse(5.0, 100.0, 3.0), ProcessorUse(15.0, 100.0 + everybody_s, 3.0 + own_s)

    assert others_share(before, after) == pytest.approx(share)  # of 2 processors for 10 s


def test_no_time_has_no_share():
    assert others_share(ProcessorUse(5.0, 1.0, 1.0), ProcessorUse(5.0, 1.0, 1.0)) is None


@pytest.mark.parametrize(("share", "disturbed"), [(None, False), (0.0, False), (0.09, False), (0.1, True), (1.0, True)])
def test_a_tenth_of_the_processor_disturbs(share, disturbed):
    assert is_disturbed(share) == disturbed


@pytest.mark.skipif(not others.STAT.exists(), reason="only Linux tells")
def test_a_real_neighbour_is_seen():
    before = processor_use()
    work = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    after = processor_use()

    assert after.everybody_s - before.everybody_s - (after.own_s - before.own_s) >= 0.3
