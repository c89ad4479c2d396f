"""Islands divide a batch exactly, in proportion to their speeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.planner.choose.split import even_part, grain, split_batch


@given(st.integers(8, 20_000), st.lists(st.floats(1, 1e6), min_size=1, max_size=8))
def test_the_parts_add_up_and_nobody_is_left_out(batch_seqs, speeds):
    parts = split_batch(batch_seqs, speeds)

    assert sum(parts) == batch_seqs
    assert min(parts) >= 1


@given(st.integers(500, 20_000), st.lists(st.floats(1, 4), min_size=2, max_size=4))
def test_a_part_is_off_by_a_percent_of_the_batch_at_most(batch_seqs, speeds):
    for part, speed in zip(split_batch(batch_seqs, speeds), speeds, strict=True):
        assert part == pytest.approx(batch_seqs * speed / sum(speeds), abs=0.02 * batch_seqs)


def test_parts_are_whole_micro_batches_where_the_batch_is():
    assert split_batch(8960, [2.0, 1.0]) == (5968, 2992)  # multiples of 16
    assert split_batch(8961, [2.0, 1.0]) == (5974, 2987)


@pytest.mark.parametrize(("batch_seqs", "islands", "expected"), [(8960, 2, 16), (8960, 1, 16), (512, 4, 2), (63, 2, 1)])
def test_a_grain_is_small_beside_a_part(batch_seqs, islands, expected):
    assert grain(batch_seqs, islands) == expected


def test_even_parts_never_exceed_the_batch():
    assert even_part(8960, 3) == 2976
    assert even_part(7, 7) == 1
