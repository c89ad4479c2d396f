"""What another shape would save of a published model's bill."""

import pytest

from everyflop.planner.shape.reshape import equal_shape, reshaped
from everyflop.planner.shape.shape import Shape
from everyflop.spec.presets import preset

LING_PLUS = preset("ling-plus")


def by_compute(shape: Shape) -> float:
    return shape.compute * 2e-17


def dearer_with_more_experts(shape: Shape) -> float:
    return by_compute(shape) * (1 + shape.model.n_experts / 1e4)


def test_ling_plus_could_be_had_for_a_quarter_less_compute():
    made = reshaped(LING_PLUS, 10**12, name="ling-plus", cost=1.74e23 * 2e-17, bill=dearer_with_more_experts)

    # A = 5/65, G = 3.5 at 1.74e23 FLOP: 5.2 by the law (5.0 at 1e23, 6.0 at 1e24); the other is cut at 7.
    assert made is not None
    assert made.leverage == pytest.approx(5.2, abs=0.05)
    assert made.compute_saved_share == pytest.approx(1 - 5.2 / 7, abs=0.01)
    assert made.cost_saved_share == pytest.approx(1 - 5.2 / 7 * 1.0256, abs=0.01)
    assert made.shape.model.n_experts == 256


def test_where_the_law_was_checked_the_better_shape_saves_more():
    made = reshaped(LING_PLUS, 10**12, name="ling-plus", cost=1.0, bill=dearer_with_more_experts)

    assert made is not None
    assert made.checked_saved_share == pytest.approx(1 - 4.2 / 6.8, abs=0.015)  # both at 1e22 FLOP


def test_the_cheapest_of_the_equals_is_taken():
    def cheap_with_128(shape: Shape) -> float:
        return by_compute(shape) * (0.5 if shape.model.n_experts == 128 else 1.0)

    made = reshaped(LING_PLUS, 10**12, name="ling-plus", cost=1.0, bill=cheap_with_128)

    assert made is not None
    assert made.shape.model.n_experts == 128


def test_shapes_that_cannot_be_run_are_passed_over_and_without_any_there_is_no_answer():
    def only_512(shape: Shape) -> float | None:
        return by_compute(shape) if shape.model.n_experts == 512 else None

    made = reshaped(LING_PLUS, 10**12, name="ling-plus", cost=1.0, bill=only_512)

    assert made is not None
    assert made.shape.model.n_experts == 512
    assert reshaped(LING_PLUS, 10**12, name="ling-plus", cost=1.0, bill=lambda _: None) is None


@pytest.mark.parametrize("dense_equivalent", [1e21, 7e22, 1e24])
def test_the_equal_shape_has_the_dense_equivalent_asked_for(dense_equivalent):
    assert equal_shape(dense_equivalent, n_experts=256).dense_equivalent == pytest.approx(dense_equivalent, rel=0.005)
