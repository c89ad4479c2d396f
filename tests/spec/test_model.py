from typing import Any

import pytest
from pydantic import ValidationError

from everyflop.spec.families import FAMILIES
from everyflop.spec.model import ModelSpec

FIELDS: dict[str, Any] = {
    "family": "qwen3-moe",
    "vocab_size": 100,
    "hidden": 32,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "n_experts": 8,
    "experts_per_token": 2,
    "expert_width": 16,
}
MLA = {"attention": "mla", "n_kv_heads": 4, "kv_rank": 8, "nope_head_dim": 6, "rope_head_dim": 4, "v_head_dim": 5}
YARN = {"factor": 4.0, "original_max_positions": 64}


def model(**changes: Any) -> ModelSpec:
    return ModelSpec.model_validate(FIELDS | changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"n_kv_heads": 3}, "n_heads"),
        (MLA | {"n_kv_heads": 2}, "n_kv_heads"),
        ({"experts_per_token": 9}, "experts_per_token"),
        ({"n_groups": 3}, "n_groups"),
        ({"n_groups": 8, "keep_groups": 8}, "n_groups"),
        ({"n_groups": 2, "keep_groups": 3}, "keep_groups"),
        ({"n_groups": 4, "keep_groups": 1, "experts_per_token": 3}, "keep_groups"),
        ({"dense_layers": [4], "dense_width": 8}, "dense_layers"),
        ({"dense_layers": [-1], "dense_width": 8}, "dense_layers"),
        ({"dense_layers": [0]}, "dense_width"),
        (MLA | {"v_head_dim": 0}, "v_head_dim"),
        (MLA | {"rope_head_dim": 3}, "rotary_dim"),
        ({"rotary_dim": 3}, "rotary_dim"),
        ({"rotary_dim": 10}, "rotary_dim"),
        ({"tied_embeddings": True, "norm_head": True}, "norm_head"),
        ({"yarn": YARN, "rope_theta": 1.0}, "rope_theta"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_the_key_to_mend(changes: dict[str, Any], key: str):
    with pytest.raises(ValidationError) as caught:
        model(**changes)

    (error,) = caught.value.errors()
    assert error["msg"].startswith(f"{key} ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 4},
        {"experts_per_token": 8},
        {"n_groups": 4, "keep_groups": 1},
        {"dense_layers": [0, 3], "dense_width": 8},
        {"rotary_dim": 8},
        MLA,
        {"head_dim": 10},
        {"rope_theta": 1.0},
        {"yarn": YARN, "rope_theta": 1.5},
    ],
)
def test_sizes_that_just_fit_are_taken(changes: dict[str, Any]):
    assert model(**changes).misfits() == []


def test_several_misfits_are_told_at_once():
    with pytest.raises(ValidationError, match=r"n_heads 4 .*; experts_per_token 9 "):
        model(n_kv_heads=3, experts_per_token=9)


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="n_expertz"):
        model(n_expertz=8)


@pytest.mark.parametrize("value", [True, "many", 0, -1, 1.5, None, float("inf")])
def test_a_width_is_a_positive_whole_number(value: Any):
    with pytest.raises(ValidationError, match="hidden"):
        model(hidden=value)


def test_a_family_fills_in_what_it_fixes_and_the_user_wins():
    assert model(family="ling-v2").routed_scale == 2.5
    assert model(family="ling-v2", routed_scale=1.0).routed_scale == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_valid_model(family: str):
    changes = MLA if family == "deepseek-v3" else {}

    assert model(family=family, **changes).family == family


@pytest.mark.parametrize(
    ("changes", "dims"),
    [
        ({}, (8, 8, 8)),
        ({"rotary_dim": 4}, (4, 8, 8)),
        (MLA, (4, 10, 5)),
    ],
)
def test_rope_query_and_value_widths_follow_the_kind_of_attention(changes: dict[str, Any], dims: tuple[int, ...]):
    spec = model(**changes)

    assert (spec.rope_dim, spec.qk_dim, spec.value_dim) == dims


def test_the_shared_expert_is_as_wide_as_its_parts_together():
    assert model(n_shared_experts=3).shared_width == 48
    assert model().shared_width == 0


def test_only_the_named_layers_are_dense():
    spec = model(dense_layers=[0, 2], dense_width=8)

    assert [spec.is_dense(layer) for layer in range(5)] == [True, False, True, False, False]


def test_a_model_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        model().hidden = 64


def test_a_ling_model_with_one_expert_a_token_keeps_its_weight_unscaled():
    sizes = {"vocab_size": 8, "hidden": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 8}
    experts = {"n_experts": 4, "experts_per_token": 1, "expert_width": 8}

    assert not ModelSpec.model_validate({"family": "ling-v2", **sizes, **experts}).normalise_weights
    assert ModelSpec.model_validate({"family": "mixtral", **sizes, **experts}).normalise_weights
