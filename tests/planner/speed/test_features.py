"""What the calibration knows of a case."""

import numpy as np
import pytest

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.fitting import PRIOR
from everyflop.planner.speed.cases import Cases
from everyflop.planner.speed.chip import chip_of
from everyflop.planner.speed.features import PARTS, sizes, time_shares
from everyflop.planner.speed.step_time import step_time
from everyflop.spec.layout import Layout
from everyflop.spec.presets import preset

CHIP, _ = chip_of(load_catalog().find("h100-sxm"))


def cases(*layouts: Layout, fp8: bool = False, seq_len: int = 4096) -> Cases:
    dims = dims_of(preset("mixtral-8x7b"))
    return Cases(dims, CHIP, Layouts.of(layouts), seq_len=seq_len, batch_seqs=np.full(len(layouts), 256.0), fp8=fp8)


def shares(asked: Cases) -> np.ndarray:
    return time_shares(step_time(asked, PRIOR), np.full(len(asked.layouts), asked.fp8))


def test_shares_are_of_the_whole_step():
    asked = cases(Layout(ep=8, dp=8), Layout(tp=4, pp=2, dp=8))
    parts = step_time(asked, PRIOR)

    assert shares(asked)[:, 0] == pytest.approx(parts["matmul"] / sum(parts.values()))
    assert (shares(asked)[:, : len(PARTS)].sum(axis=1) <= 1).all()


def test_the_last_share_is_of_matmuls_in_fp8():
    bf16, fp8 = shares(cases(Layout(ep=8, dp=8)))[0], shares(cases(Layout(ep=8, dp=8), fp8=True))[0]

    assert bf16[-1] == 0
    assert fp8[-1] == pytest.approx(fp8[PARTS.index("matmul")] + fp8[PARTS.index("experts")])


def test_every_share_is_of_a_component_that_there_is():
    assert set(PARTS) <= set(step_time(cases(Layout()), PRIOR))


def test_four_times_the_sequence_is_one_step_away():
    short, long = sizes(cases(Layout())), sizes(cases(Layout(), seq_len=16_384))

    assert np.linalg.norm(long - short) == pytest.approx(1)


def test_like_layouts_are_nearer_than_unlike_ones():
    a, b, c = sizes(cases(Layout(ep=8, dp=8), Layout(ep=8, dp=16), Layout(tp=8, pp=8, dp=8)))

    assert np.linalg.norm(a - b) < np.linalg.norm(a - c) / 2
