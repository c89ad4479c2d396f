"""What another shape would save of a published model's bill."""

import pytest

from everyflop.planner.reshape import equal_shape, reshaped
from everyflop.planner.shape import Shape
from everyflop.spec.presets import preset


def by_compute(shape: Shape) -> float:
    return shape.compute * 2e-17


def test_ling_plus_could_be_had_for_a_quarter_less_compute():
    made = reshaped(preset("ling-plus"), 10**12, name="ling-plus", cost=1.74e23 * 2e-17, n_experts=256, bill=by_compute)

    # A = 5/65, G = 3.5 at 1.74e23 FLOP: 5.2 by the law (5.0 at 1e23, 6.0 at 1e24); the other is cut at 7.
    assert made.leverage == pytest.approx(5.2, abs=0.05)
    assert made.compute_saved_share == pytest.approx(1 - 5.2 / 7, abs=0.01)
    assert made.cost_saved_share == pytest.approx(1 - 5.2 / 7, abs=0.01)


@pytest.mark.parametrize("dense_equivalent", [1e21, 7e22, 1e24])
def test_the_equal_shape_has_the_dense_equivalent_asked_for(dense_equivalent):
    assert equal_shape(dense_equivalent, n_experts=256).dense_equivalent == pytest.approx(dense_equivalent, rel=0.005)
