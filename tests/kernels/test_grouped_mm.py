"""Grouped matmul against a plain loop over experts.

Each result is one matmul of exact inputs, so the tolerances are rounding alone. fp32: sums of up to 48 products of
standard normals in another order. bf16: sums in fp32, rounded once to 8 bits (half a unit is 2**-8 of the value).
"""

import pytest
import torch
from torch import Tensor

from everyflop.kernels.grouped_mm import (
    matrices_times_rows,
    reference_matrices_times_rows,
    reference_rows_times_rows,
    rows_times_rows,
    select,
)

TOLERANCE = {
    torch.float64: {"rtol": 1e-13, "atol": 1e-13},
    torch.float32: {"rtol": 1e-6, "atol": 1e-5},
    torch.bfloat16: {"rtol": 2**-8, "atol": 1e-4},
}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=lambda dtype: str(dtype).removeprefix("torch."))
COUNTS = pytest.mark.parametrize(
    "counts",
    [[5, 9, 2], [0, 7, 0, 0, 6, 0], [0, 0, 11], [1, 1, 1]],
    ids=["all in use", "empty ones between", "one takes all", "one row each"],
)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def ends_of(counts: list[int]) -> Tensor:
    return torch.tensor(counts).cumsum(0).to(torch.int32)


def assert_equals_reference(x: Tensor, w: Tensor, counts: list[int]) -> None:
    ends, other = ends_of(counts), normal(len(x), w.shape[1], dtype=x.dtype, seed=2)

    products, sums = matrices_times_rows(w, x, ends), rows_times_rows(other, x, ends)

    for found, expected in (
        (products, reference_matrices_times_rows(w.double(), x.double(), ends)),
        (sums, reference_rows_times_rows(other.double(), x.double(), ends)),
    ):
        assert found.dtype == x.dtype
        torch.testing.assert_close(found.double(), expected, **TOLERANCE[x.dtype])


def test_the_references_do_what_they_say():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    w = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 0.0], [0.0, -1.0]]])
    ends = torch.tensor([1, 3], dtype=torch.int32)

    assert reference_matrices_times_rows(w, x, ends).tolist() == [[1.0, 2.0, 3.0], [6.0, 0.0, -4.0], [10.0, 0.0, -6.0]]
    assert reference_rows_times_rows(x, x, ends).tolist() == [[[1.0, 2.0], [2.0, 4.0]], [[34.0, 42.0], [42.0, 52.0]]]


@DTYPES
@COUNTS
def test_products_and_sums_equal_the_reference(dtype, counts):
    x, w = normal(sum(counts), 48, dtype=dtype), normal(len(counts), 32, 48, dtype=dtype, seed=1)

    assert_equals_reference(x, w, counts)


@DTYPES
@pytest.mark.parametrize(("n_in", "n_out"), [(5, 16), (16, 7), (3, 1)])
def test_widths_that_are_no_multiple_of_16_bytes_work_too(dtype, n_in, n_out):
    x, w = normal(9, n_in, dtype=dtype), normal(3, n_out, n_in, dtype=dtype, seed=1)

    assert_equals_reference(x, w, [4, 0, 5])


@DTYPES
def test_matrices_may_be_transposed_views(dtype):
    x, w, ends = normal(7, 16, dtype=dtype), normal(2, 16, 8, dtype=dtype, seed=1), ends_of([3, 4])

    found, expected = (matrices_times_rows(matrices, x, ends) for matrices in (w.mT, w.mT.contiguous()))

    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_at_all_give_an_empty_product_and_sums_of_zero(dtype):
    x, w = normal(0, 16, dtype=dtype), normal(3, 8, 16, dtype=dtype)

    assert matrices_times_rows(w, x, ends_of([0, 0, 0])).shape == (0, 8)
    assert not rows_times_rows(normal(0, 8, dtype=dtype), x, ends_of([0, 0, 0])).any()


@pytest.mark.parametrize(
    ("dtype", "widths", "implementation"),
    [
        (torch.float32, (4, 8), "torch"),
        (torch.float32, (4, 6), "loop"),  # 24 bytes
        (torch.bfloat16, (8, 16), "torch"),
        (torch.bfloat16, (4, 16), "loop"),  # 8 bytes
        (torch.float64, (16, 16), "loop"),
    ],
)
def test_the_choice_depends_on_type_and_widths_and_says_why(dtype, widths, implementation):
    choice = select(dtype, *widths)

    assert (choice.kernel, choice.implementation) == ("grouped_mm", implementation)
    assert choice.reason
