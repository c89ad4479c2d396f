import pytest

from everyflop.accounting.expert_rows import block_rows, expert_rows


@pytest.mark.parametrize(
    ("rows_of_an_expert", "block"),
    [(1, 1), (15, 1), (16, 16), (255, 16), (256, 32), (512, 64), (1024, 128), (9999, 128)],
)
def test_blocks_grow_with_the_rows_of_an_expert(rows_of_an_expert, block):
    assert block_rows(7 * rows_of_an_expert, 7) == block


def test_rows_are_enough_when_every_expert_begins_one_row_into_a_block():
    assert expert_rows(7 * 512, 7) == 64 * -(-(7 * 512 + 7 * 63) // 64)
    assert expert_rows(7 * 15, 7) == 7 * 15
