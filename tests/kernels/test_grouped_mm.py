"""Grouped matmul against a plain loop over experts.

Each result is one matmul of exact inputs, so the tolerances are rounding alone. fp32: sums of up to 48 products of
standard normals in another order. bf16: sums in fp32, rounded once to 8 bits (half a unit is 2**-8 of the value).
"""

import pytest
import torch
from torch import Tensor

from everyflop.kernels.grouped_mm import grouped_mm, reference, select

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


def results(function, x: Tensor, w: Tensor, ends: Tensor, grad: Tensor) -> list[Tensor]:
    """Return the output and both gradients."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = function(x, w, ends)
    y.backward(grad)
    return [y.detach(), x.grad, w.grad]


def assert_equals_reference(x: Tensor, w: Tensor, counts: list[int]) -> None:
    ends, grad = ends_of(counts), normal(len(x), w.shape[1], dtype=x.dtype, seed=2)

    found = results(grouped_mm, x, w, ends, grad)

    exact = results(reference, x.double(), w.double(), ends, grad.double())
    for one, expected in zip(found, exact, strict=True):
        assert one.dtype == x.dtype
        torch.testing.assert_close(one.double(), expected, **TOLERANCE[x.dtype])


def test_the_reference_multiplies_each_row_by_its_experts_matrix():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    w = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[2.0, 0.0], [0.0, 0.0], [0.0, -1.0]]])

    y = reference(x, w, torch.tensor([1, 3], dtype=torch.int32))

    assert y.tolist() == [[1.0, 2.0, 3.0], [6.0, 0.0, -4.0], [10.0, 0.0, -6.0]]


@DTYPES
@COUNTS
def test_output_and_gradients_equal_the_reference(dtype, counts):
    x, w = normal(sum(counts), 48, dtype=dtype), normal(len(counts), 32, 48, dtype=dtype, seed=1)

    assert_equals_reference(x, w, counts)


@DTYPES
@pytest.mark.parametrize(("n_in", "n_out"), [(5, 16), (16, 7), (3, 1)])
def test_widths_that_are_no_multiple_of_16_bytes_work_too(dtype, n_in, n_out):
    x, w = normal(9, n_in, dtype=dtype), normal(3, n_out, n_in, dtype=dtype, seed=1)

    assert_equals_reference(x, w, [4, 0, 5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_expert_without_rows_gets_a_gradient_of_zero(dtype):
    x, w = normal(6, 16, dtype=dtype), normal(3, 16, 16, dtype=dtype, seed=1)

    _, _, grad_w = results(grouped_mm, x, w, ends_of([2, 0, 4]), normal(6, 16, dtype=dtype, seed=2))

    assert not grad_w[1].any()
    assert grad_w[0].any()
    assert grad_w[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_rows_at_all_give_an_empty_result(dtype):
    x, w = normal(0, 16, dtype=dtype), normal(3, 8, 16, dtype=dtype)

    y, grad_x, grad_w = results(grouped_mm, x, w, ends_of([0, 0, 0]), normal(0, 8, dtype=dtype))

    assert y.shape == (0, 8)
    assert grad_x.shape == (0, 16)
    assert not grad_w.any()


@DTYPES
def test_an_expanded_gradient_works(dtype):
    x, w, ends = normal(6, 16, dtype=dtype), normal(2, 8, 16, dtype=dtype, seed=1), ends_of([2, 4])
    expanded = torch.ones((), dtype=dtype).expand(6, 8)  # what the backward of sum() hands on

    found = results(grouped_mm, x, w, ends, expanded)

    for one, expected in zip(found, results(grouped_mm, x, w, ends, expanded.clone()), strict=True):
        assert torch.equal(one, expected)


@DTYPES
@pytest.mark.parametrize(
    "view", [lambda x: x[:1].expand(7, -1), lambda x: x.T.contiguous().T, lambda x: x.repeat(1, 2)[:, ::2]]
)
def test_rows_may_be_a_view(dtype, view):
    x, w = view(normal(7, 16, dtype=dtype)), normal(2, 8, 16, dtype=dtype, seed=1)

    assert torch.equal(grouped_mm(x, w, ends_of([3, 4])), grouped_mm(x.clone().contiguous(), w, ends_of([3, 4])))


def test_gradients_hold_under_finite_differences():
    x, w = normal(5, 3, dtype=torch.float64).requires_grad_(), normal(3, 4, 3, dtype=torch.float64).requires_grad_()

    assert torch.autograd.gradcheck(lambda x, w: grouped_mm(x, w, ends_of([2, 0, 3])), (x, w))


@DTYPES
@pytest.mark.parametrize("transpose", [True, False])
def test_rows_times_matrices_is_a_well_formed_operator(dtype, transpose):
    shape = (2, 8, 16) if transpose else (2, 16, 8)
    x, w = normal(6, 16, dtype=dtype).requires_grad_(), normal(*shape, dtype=dtype, seed=1).requires_grad_()

    torch.library.opcheck(torch.ops.everyflop.rows_times_matrices.default, (x, w, ends_of([2, 4]), transpose))


@DTYPES
def test_rows_times_rows_is_a_well_formed_operator(dtype):
    left, right = normal(6, 16, dtype=dtype), normal(6, 8, dtype=dtype, seed=1)

    torch.library.opcheck(torch.ops.everyflop.rows_times_rows.default, (left, right, ends_of([2, 4])))


def test_it_compiles_without_a_graph_break_and_changes_no_bit():
    x, w, ends, grad = normal(6, 16), normal(2, 8, 16, seed=1), ends_of([2, 4]), normal(6, 8, seed=2)
    compiled = torch.compile(grouped_mm, fullgraph=True, backend="aot_eager")

    found = results(compiled, x, w, ends, grad)

    for one, expected in zip(found, results(grouped_mm, x, w, ends, grad), strict=True):
        assert torch.equal(one, expected)


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
