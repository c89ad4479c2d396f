import pytest

from everyflop.train.update import StepTooLarge, memory_explained


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_too_little_memory_of_a_processor_is_explained_as_that_of_an_accelerator_is(error):
    with pytest.raises(StepTooLarge, match=r"train\.micro_batch = 4"), memory_explained(4, StepTooLarge):
        raise error


def test_no_other_error_is_taken_for_too_little_memory():
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(4):
        raise RuntimeError("shapes do not match")
