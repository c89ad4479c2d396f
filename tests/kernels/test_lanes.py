"""Pieces of work on several cores: each done once, in whatever order."""

import threading

import pytest
import torch

from everyflop.kernels.lanes import each


@pytest.fixture(params=[1, 2])
def threads(request):
    """How many threads torch has; put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_piece_is_done_once(threads):
    done = []

    each(done.append, list(range(20)))

    assert sorted(done) == list(range(20))


def test_pieces_run_beside_each_other_where_there_are_threads():
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=20)

    each(lambda _: meeting.wait(), [0, 1])  # one after the other, the first would wait in vain


def test_torch_has_its_threads_back_afterwards_even_after_an_error(threads):
    def fail(_: int) -> None:
        raise ValueError("a piece")

    with pytest.raises(ValueError, match="a piece"):
        each(fail, [0, 1, 2])

    assert torch.get_num_threads() == threads


def test_no_piece_records_gradients(threads):
    x = torch.ones(3, requires_grad=True)
    found = []

    with torch.no_grad():  # as inside a custom operator
        each(lambda piece: found.append((x * piece).requires_grad), [1, 2])

    assert found == [False, False]
