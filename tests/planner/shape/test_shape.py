"""What the laws would train with a compute budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.parameters import count_parameters
from everyflop.base.errors import ExpectedNo
from everyflop.planner.shape.shape import (
    EXPERT_COUNTS,
    activation_of,
    active_parameters,
    granularity_of,
    model_of,
    shape_for,
    spend,
)
from everyflop.spec.presets import preset

experts = st.sampled_from(EXPERT_COUNTS)


@pytest.mark.parametrize(
    ("published", "hidden", "layers"),
    [("ling-flash-2.0", 4096, 32), ("ling-mini-2.0", 2048, 20)],
)
def test_at_a_published_models_size_the_shape_is_the_published_one(published, hidden, layers):
    made, known = model_of(hidden, layers, 256), preset(published)
    same = ("dense_layers", "n_heads", "n_kv_heads", "head_dim", "n_experts", "experts_per_token", "expert_width")

    assert [getattr(made, key) for key in same] == [getattr(known, key) for key in same]
    assert count_parameters(made).active == pytest.approx(count_parameters(known).active, rel=0.01)


def test_ling_flash_2_on_20_trillion_tokens_gets_its_published_batch_and_learning_rate():
    shape = spend(6 * 6.1e9 * 20e12, model_of(4096, 32, 256))

    assert shape.lr == pytest.approx(2.61e-4, rel=0.01)
    assert shape.batch_tokens / 4096 == pytest.approx(8352, rel=0.03)
    assert shape.tokens == pytest.approx(20e12, rel=0.01)


def test_compute_is_split_between_size_and_tokens_as_published():
    shape = shape_for(1e22, n_experts=256)  # M = 0.1915 x 1e22^0.5095 = 3.10e10 FLOP a token, D = 3.22e11

    assert 6 * shape.active == pytest.approx(3.10e10, rel=0.05)
    assert shape.tokens == pytest.approx(3.22e11, rel=0.05)


def test_experts_are_cut_as_the_leverage_study_advises():
    model = shape_for(1e22, n_experts=256).model

    assert activation_of(model) == pytest.approx(0.035, abs=5e-4)
    assert granularity_of(model) == 8
    assert model.n_shared_experts == 1


@given(st.floats(2e19, 3e25), st.floats(1, 30), experts)
def test_a_larger_budget_never_gives_a_smaller_model(compute, more, n_experts):
    small, large = (shape_for(budget, n_experts=n_experts) for budget in (compute, min(compute * more, 3e25)))

    assert compute > 3e25 / more or small.active <= large.active


@given(st.floats(1e20, 1e25), experts)
def test_a_shape_spends_its_budget_on_nearly_the_size_that_the_law_wants(compute, n_experts):
    shape = shape_for(compute, n_experts=n_experts)

    assert shape.compute == pytest.approx(compute, rel=0.001)
    assert 6 * shape.active == pytest.approx(0.1915 * compute**0.5095, rel=0.25)
    assert shape.tokens % shape.batch_tokens == 0


@given(st.sampled_from([512, 768, 2048, 4608, 5120]), st.integers(4, 40), experts)
def test_active_parameters_are_those_of_the_models_list(hidden, layers, n_experts):
    counted = count_parameters(model_of(hidden, min(layers, 8), n_experts))

    assert active_parameters(hidden, min(layers, 8), n_experts) == counted.active


@pytest.mark.parametrize("compute", [1e15, 1e29])
def test_a_budget_beyond_all_shapes_is_refused_with_what_there_is(compute):
    with pytest.raises(ExpectedNo, match=r"shapes are made from .* Change --budget"):
        shape_for(compute, n_experts=256)
