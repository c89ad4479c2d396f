import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.optim.merge import Method, merge_coefficients, merge_weights


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.data())
def test_a_merge_equals_training_with_each_update_scaled_by_the_decay(decay: list[float], data: st.DataObject):
    decay = sorted(decay, reverse=True)
    start, *updates = data.draw(st.lists(st.floats(-10, 10), min_size=len(decay) + 1, max_size=len(decay) + 1))
    checkpoints = [start]
    for update in updates:
        checkpoints.append(checkpoints[-1] + update)

    merged = sum(c * checkpoint for c, checkpoint in zip(merge_coefficients(decay), checkpoints, strict=True))

    decayed = start + sum(w * update for w, update in zip(decay, updates, strict=True))
    assert merged == pytest.approx(decayed, abs=1e-9)


def test_coefficients_are_the_steps_of_the_decay():
    assert merge_coefficients([0.75, 0.25]) == [0.25, 0.5, 0.25]


def test_no_decay_leaves_only_the_newest_checkpoint():
    assert merge_coefficients([1.0, 1.0, 1.0]) == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("decay", [[0.5, 0.6], [1.1], [0.5, -0.1]])
def test_what_does_not_fall_from_one_to_zero_is_no_decay(decay: list[float]):
    with pytest.raises(ValueError, match="must fall"):
        merge_coefficients(decay)


def test_the_mean_stands_in_for_a_linear_decay():
    assert merge_weights(4, method="mean") == [0.25, 0.25, 0.25, 0.25]


def test_one_minus_sqrt_weighs_four_checkpoints_as_worked_by_hand():
    # 1 - sqrt(i/4) for i = 0 ... 4: 1, 0.5, 0.29289, 0.13397, 0; the weights are its steps.
    assert merge_weights(4, method="one-minus-sqrt") == pytest.approx([0.5, 0.20711, 0.15892, 0.13397], abs=1e-5)


@pytest.mark.parametrize("method", ["mean", "one-minus-sqrt"])
@given(n=st.integers(1, 64))
def test_all_weights_are_positive_and_sum_to_one(n: int, method: Method):
    weights = merge_weights(n, method=method)

    assert len(weights) == n
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(1.0)
