import pytest
import torch
from torch.nn import Parameter

from everyflop.train.update import StepTooLarge, clip_gradients, memory_explained


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_too_little_memory_of_a_processor_is_explained_as_that_of_an_accelerator_is(error):
    with pytest.raises(StepTooLarge, match=r"train\.micro_batch = 4"), memory_explained(4, StepTooLarge):
        raise error


def test_no_other_error_is_taken_for_too_little_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(4):
        raise RuntimeError("shapes do not match")


@pytest.mark.parametrize("most", [0.1, 4.999999, 5.0, 5.000002, 100.0, float("inf")])
def test_gradients_are_clipped_as_torch_clips_them(most):
    ours, theirs = Parameter(torch.zeros(2)), Parameter(torch.zeros(2))
    ours.grad, theirs.grad = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
    without = Parameter(torch.zeros(3))

    assert clip_gradients([ours, without], most) == torch.nn.utils.clip_grad_norm_([theirs], most).item() == 5.0
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_is_told(bad):
    parameter = Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, bad])

    assert str(clip_gradients([parameter], 1.0)) == str(bad)
