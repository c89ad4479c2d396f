"""Published counts come from the hub's safetensors metadata (all parameters and buffers) and from model cards."""

import pytest
import torch

from everyflop.accounting.parameters import count_parameters, parameter_shapes
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset, preset_names

# safetensors.total of each model's hub page; Mixtral-8x22B is v0.3 (vocabulary 32,768). The Ling 2.0 files hold the
# expert bias too: 256 numbers in each MoE layer, which are no parameters.
HUB_TOTALS = {
    "ling-mini-2.0": 16_255_643_392 - 19 * 256,
    "ling-flash-2.0": 102_889_705_216 - 31 * 256,
    "ling-1t": 999_705_328_640 - 76 * 256,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_630_071_296,
    "olmoe-1b-7b": 6_919_161_856,
}

# Billions: total, active with both embeddings, active without. The Ling reports' tables, to a tenth of a percent.
LING_BILLIONS = {
    "ling-lite": (16.802, 2.753, 2.235),
    "ling-lite-1.5": (16.802, 2.753, 2.235),
    "ling-plus": (290.60, 29.00, 27.64),
    "ling-plus-56": (292.54, 30.94, 29.58),
    "ling-mini-2.0": (16.256, 1.433, 0.789),
    "ling-flash-2.0": (102.89, 6.152, 4.865),
    "ling-1t": (999.7, 51.05, 48.48),
}

# Billions that tokens meet, as the model cards round them.
CARD_ACTIVE_BILLIONS = {
    "deepseek-v3": (37, 0.6),
    "qwen3-30b-a3b": (3.3, 0.06),
    "qwen3-235b-a22b": (22, 0.5),
    "mixtral-8x7b": (12.9, 0.05),
    "mixtral-8x22b": (39, 0.5),
    "olmoe-1b-7b": (1.3, 0.05),
}


def tiny(**changes: object) -> ModelSpec:
    fields = {
        "family": "ling-v2",
        "vocab_size": 50,
        "hidden": 8,
        "n_layers": 3,
        "dense_layers": [0],
        "dense_width": 20,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 6,
        "n_experts": 4,
        "experts_per_token": 2,
        "expert_width": 10,
        "n_shared_experts": 3,
    }
    return ModelSpec.model_validate(fields | changes)


MLA = {"family": "deepseek-v3", "n_kv_heads": 4, "kv_rank": 5, "nope_head_dim": 4, "rope_head_dim": 2, "v_head_dim": 3}
VARIANTS = {
    "packed GQA with head norms": tiny(),
    "full QK norm": tiny(family="olmoe"),
    "biases": tiny(family="ling-v1", qkv_bias=True, out_bias=True),
    "tied embeddings": tiny(tied_embeddings=True),
    "no shared expert": tiny(n_shared_experts=0),
    "an MTP layer": tiny(n_mtp_layers=1),
    "MLA": tiny(**MLA, n_mtp_layers=1),
    "MLA with a query rank and biases": tiny(**MLA, q_rank=7, qkv_bias=True),
}


def built_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in CausalLM(spec).named_parameters()}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_exactly_the_parameters_of_the_built_model(name: str):
    spec = preset(name)

    assert parameter_shapes(spec) == built_shapes(spec)


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_has_exactly_the_parameters_of_the_built_model(spec: ModelSpec):
    assert parameter_shapes(spec) == built_shapes(spec)


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS)
def test_total_and_mtp_add_up_to_the_built_models_parameters(spec: ModelSpec):
    with torch.device("meta"):
        built = sum(parameter.numel() for parameter in CausalLM(spec).parameters())

    count = count_parameters(spec)

    assert count.total + count.mtp == built


@pytest.mark.parametrize(("name", "published"), HUB_TOTALS.items())
def test_totals_equal_the_hubs_counts_to_the_last_parameter(name: str, published: int):
    assert count_parameters(preset(name)).total == published


def test_deepseek_v3_with_its_mtp_layer_equals_the_hubs_count():
    # bf16 and fp8 tensors of the hub's files; the MTP layer stores its own copies of embedding and head there.
    hub = 3_918_786_560 + 680_571_043_840
    copies = 2 * 129_280 * 7_168

    count = count_parameters(preset("deepseek-v3").model_copy(update={"n_mtp_layers": 1}))

    assert count.total + count.mtp + copies == hub


@pytest.mark.parametrize(("name", "billions"), LING_BILLIONS.items())
def test_ling_counts_are_the_reports_to_a_tenth_of_a_percent(name: str, billions: tuple[float, float, float]):
    count = count_parameters(preset(name))

    found = (count.total / 1e9, count.active / 1e9, count.active_non_embedding / 1e9)
    assert found == pytest.approx(billions, rel=1e-3)


@pytest.mark.parametrize(("name", "base_billions"), [("ling-mini-2.0", 17.083), ("ling-flash-2.0", 106.20)])
def test_ling_base_checkpoints_are_larger_by_one_mtp_layer(name: str, base_billions: float):
    count = count_parameters(preset(name).model_copy(update={"n_mtp_layers": 1}))

    assert (count.total + count.mtp) / 1e9 == pytest.approx(base_billions, rel=1e-3)


@pytest.mark.parametrize(("name", "published"), CARD_ACTIVE_BILLIONS.items())
def test_active_counts_round_to_the_model_cards(name: str, published: tuple[float, float]):
    billions, rounding = published

    assert count_parameters(preset(name)).active / 1e9 == pytest.approx(billions, abs=rounding)


def test_qwen3_30b_has_29_9_billion_parameters_beside_its_embeddings():
    count = count_parameters(preset("qwen3-30b-a3b"))

    assert (count.total - count.embedding - count.head) / 1e9 == pytest.approx(29.9, abs=0.05)


def test_parts_of_a_tiny_model_are_those_counted_by_hand():
    count = count_parameters(tiny())

    assert count.embedding == 50 * 8
    assert count.head == 50 * 8
    assert count.attention == 3 * ((4 + 2 * 2) * 6 * 8 + 4 * 6 * 8 + 2 * 6)
    assert count.norms == 3 * 2 * 8 + 8
    assert count.dense == 3 * 8 * 20
    assert count.router == 2 * 4 * 8
    assert count.routed == 2 * 4 * 3 * 8 * 10
    assert count.routed_active == 2 * 2 * 3 * 8 * 10
    assert count.shared == 2 * 3 * 8 * (3 * 10)
    assert count.mtp == 0


def test_an_mtp_layer_is_one_moe_layer_a_merge_and_three_norms():
    moe_layer = (8 * 6 * 8 + 4 * 6 * 8 + 2 * 6) + 2 * 8 + 4 * 8 + (4 + 3) * 3 * 8 * 10

    count = count_parameters(tiny(n_mtp_layers=1))

    assert count.mtp == moe_layer + 2 * 8 * 8 + 3 * 8
    assert count.total == count_parameters(tiny()).total


def test_a_tied_head_is_counted_once():
    count = count_parameters(tiny(tied_embeddings=True))

    assert count.head == 0
    assert count.total == count_parameters(tiny()).total - 50 * 8
