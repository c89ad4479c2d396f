import pytest
import torch

from everyflop.kernels.grouped_mm import matrices_times_rows
from everyflop.kernels.split_sums import PART, SplitSums

INNER = 3 * PART + 8
BF16_ROUNDING = 2.0**-8


def values(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    made = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=made, dtype=torch.float64).to(dtype)


def grouped(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Two experts of two rows each, with the same matrix."""
    ends = torch.tensor([2, 4], dtype=torch.int32)
    return matrices_times_rows(right.T.contiguous().expand(2, -1, -1).contiguous(), left, ends)


PRODUCTS = {
    "mm": lambda left, right: left @ right,
    "bmm": lambda left, right: (left.expand(2, -1, -1) @ right.expand(2, -1, -1))[0],
    "linear with bias": lambda left, right: torch.nn.functional.linear(left, right.T, right.new_zeros(right.shape[1])),
    "experts": grouped,
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_summed_otherwise_and_are_the_same_products(product, dtype):
    left, right = values(4, INNER, dtype=dtype), values(INNER, 16, dtype=dtype)
    exact = (left.double() @ right.double()).float()

    with SplitSums() as other:
        theirs = product(left, right)

    rounding = BF16_ROUNDING if dtype == torch.bfloat16 else 2.0**-23
    # Each part's sum and each addition rounds once more; sums are of the size of the root of INNER.
    assert torch.allclose(theirs.float(), exact, rtol=0, atol=8 * rounding * INNER**0.5)
    assert not torch.equal(theirs, product(left, right))
    assert other.products == 1


def test_backward_passes_are_summed_otherwise_as_well():
    left, right = values(INNER, 16, dtype=torch.bfloat16), values(16, 8, dtype=torch.bfloat16).requires_grad_()

    with SplitSums() as other:
        (left @ right).sum().backward()

    assert other.products >= 2  # the gradient of `right` has the long inner dimension
    assert right.grad is not None
    assert not torch.equal(right.grad, left.T @ left.new_ones(INNER, 8))


def test_an_inner_dimension_of_one_part_is_summed_as_here():
    left, right = values(4, PART, dtype=torch.bfloat16), values(PART, 8, dtype=torch.bfloat16)

    with SplitSums():
        theirs = left @ right

    assert torch.equal(theirs, left @ right)


def test_an_empty_inner_dimension_gives_zeros():
    with SplitSums():
        assert torch.equal(torch.ones(2, 0) @ torch.ones(0, 3), torch.zeros(2, 3))
