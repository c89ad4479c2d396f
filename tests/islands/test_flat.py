import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.flat import flatten, moved_from, unflatten_into


def tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@given(st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5))
def test_tensors_come_back_from_their_flat_array(shapes):
    before = tensors(*shapes)
    after = [torch.empty_like(tensor) for tensor in before]
    unflatten_into(flatten(before), after)

    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_flat_array_of_another_model_is_refused():
    with pytest.raises(ValueError, match="7 numbers for tensors of 6"):
        unflatten_into(np.zeros(7, dtype=np.float32), tensors((2, 3)))


def test_how_far_tensors_moved_is_the_difference_bit_for_bit():
    before, after = tensors((3, 5), (7,), (), seed=1), tensors((3, 5), (7,), (), seed=2)

    assert moved_from(flatten(before), after).tobytes() == (flatten(before) - flatten(after)).tobytes()


def test_tensors_need_not_be_contiguous():
    (tensor,) = tensors((4, 6))

    assert moved_from(flatten([tensor.t().contiguous()]), [tensor.t()]).tolist() == [0.0] * 24
