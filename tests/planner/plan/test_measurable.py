"""What could be measured of a model on one device, and what that would tell."""

import shlex

import pytest

from everyflop.accounting.parameters import count_parameters
from everyflop.catalog.load import load_catalog
from everyflop.planner.plan.measurable import reduced
from everyflop.planner.plan.measure_next import measure_next
from everyflop.spec.preset_run import preset_run
from everyflop.spec.presets import preset, preset_names

from ..fleets import A100, H100, MI300X, desk, fleet


@pytest.mark.parametrize("name", preset_names())
def test_the_overrides_make_the_model_that_is_meant_and_it_fits(name):
    device = load_catalog().find("h100-sxm")
    cut = reduced(preset(name), device)
    assert cut

    count = count_parameters(cut.model)
    assert 16 * (count.total + count.mtp) <= 0.6 * 80e9  # fp32 weights, gradients, two moments
    assert preset_run(name, cut.overrides).model == cut.model


def test_a_model_that_fits_is_measured_whole():
    small = preset("ling-lite").model_copy(update={"n_layers": 2})

    assert reduced(small, load_catalog().find("h100-sxm")).overrides == ()


def test_layers_and_widths_stay_as_they_are():
    whole = preset("ling-1t")
    cut = reduced(whole, load_catalog().find("h100-sxm"))
    assert cut

    for name in ("hidden", "n_heads", "n_kv_heads", "expert_width", "experts_per_token"):
        assert getattr(cut.model, name) == getattr(whole, name)


def test_a_device_too_small_for_one_layer_measures_nothing():
    tiny = load_catalog().find("h100-sxm").model_copy(update={"mem_gb": 1.0})

    assert reduced(preset("ling-1t"), tiny) is None


def test_the_chip_of_the_plan_is_what_to_measure_first():
    asked = desk(fleet(H100, A100, MI300X))
    best = asked.best()
    assert best
    device = asked.supply.offers[best.pools[0]].hardware.device.name

    first = measure_next(asked.supply, asked.market, best, model_option="--model ling-lite")[0]
    assert first.device == device
    assert first.width_after < first.width_now


def test_a_command_names_the_model_and_the_device():
    asked = desk(fleet(H100))
    best = asked.best()
    assert best

    (one,) = measure_next(asked.supply, asked.market, best, model_option="--run 'my run.toml'")
    words = shlex.split(one.command)
    assert words[:4] == ["everyflop", "measure", "--run", "my run.toml"]
    assert words[-2:] == ["--device", "h100-sxm"]


def test_layers_that_predict_further_tokens_are_left_out():
    model = preset("ling-1t").model_copy(update={"n_mtp_layers": 1})
    cut = reduced(model, load_catalog().find("h100-sxm"))
    assert cut

    assert cut.model.n_mtp_layers == 0
    assert "model.n_mtp_layers=0" in cut.overrides
