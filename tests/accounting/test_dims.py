"""Sizes of a model as the cost formulas see them."""

import pytest

from everyflop.accounting.dims import dims_of
from everyflop.accounting.flops import flops_per_token
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.accounting.parameters import count_parameters
from everyflop.spec.presets import preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_parameters_are_those_of_the_built_model_up_to_norms_and_biases(name):
    spec = preset(name)
    dims, count = dims_of(spec), count_parameters(spec)

    assert dims.total_parameters == pytest.approx(count.total + count.mtp, rel=1e-4)
    assert dims.active_parameters == pytest.approx(count.active + count.mtp, rel=1e-3)


@pytest.mark.parametrize("name", preset_names())
def test_model_flops_are_those_counted_matrix_by_matrix(name):
    spec = preset(name)

    assert training_flops_per_token(dims_of(spec), 4096) == pytest.approx(
        flops_per_token(spec, 4096).training, rel=1e-4
    )


def test_full_attention_counts_twice_the_causal_scores():
    dims = dims_of(preset("mixtral-8x7b"))
    causal, full, none = (training_flops_per_token(dims, 4096, scores=s) for s in ("causal", "full", "none"))

    assert full - none == pytest.approx(2 * (causal - none))
    # 32 layers, 32 heads of 128 for keys and values, 4096 keys, 2 FLOPs, forward and twice backward
    assert full - none == pytest.approx(3 * 2 * 32 * 32 * (128 + 128) * 4096)


def test_mtp_layers_without_a_loss_cost_nothing_as_they_are_not_trained():
    idle = preset("ling-mini-2.0").model_copy(update={"n_mtp_layers": 1, "mtp_loss_weight": 0.0})
    without, trained = (idle.model_copy(update=more) for more in ({"n_mtp_layers": 0}, {"mtp_loss_weight": 0.1}))

    assert dims_of(idle) == dims_of(without)
    assert dims_of(trained).n_layers == dims_of(without).n_layers + 1
