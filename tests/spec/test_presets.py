import pytest

from everyflop.base.errors import UsageError
from everyflop.spec.presets import preset, preset_fields, preset_names


def test_all_published_models_are_there():
    assert set(preset_names()) == {
        "ling-lite",
        "ling-lite-1.5",
        "ling-plus",
        "ling-plus-56",
        "ling-mini-2.0",
        "ling-flash-2.0",
        "ling-1t",
        "deepseek-v3",
        "qwen3-30b-a3b",
        "qwen3-235b-a22b",
        "mixtral-8x7b",
        "mixtral-8x22b",
        "olmoe-1b-7b",
    }


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_valid_model(name: str):
    assert preset(name).misfits() == []


@pytest.mark.parametrize(("name", "heads"), [("ling-plus", (42, 6)), ("ling-plus-56", (56, 8))])
def test_ling_plus_has_both_published_head_counts(name: str, heads: tuple[int, int]):
    spec = preset(name)

    assert (spec.n_heads, spec.n_kv_heads, spec.head_dim) == (*heads, 128)


@pytest.mark.parametrize(
    ("name", "norm_head"), [("ling-lite", True), ("ling-lite-1.5", False), ("ling-plus", True), ("ling-1t", False)]
)
def test_norm_head_is_as_published(name: str, norm_head: bool):
    assert preset(name).norm_head is norm_head


@pytest.mark.parametrize("name", ["ling-mini-2.0", "ling-flash-2.0", "ling-1t"])
def test_ling_2_rotates_half_of_each_head_and_routes_within_four_of_eight_groups(name: str):
    spec = preset(name)

    assert (spec.rope_dim, spec.head_dim) == (64, 128)
    assert (spec.n_experts, spec.experts_per_token, spec.n_groups, spec.keep_groups) == (256, 8, 8, 4)
    assert (spec.score, spec.expert_bias, spec.routed_scale, spec.qk_norm) == ("sigmoid", True, 2.5, "head")


def test_an_unknown_preset_is_refused_with_the_nearest_and_all_names():
    with pytest.raises(UsageError, match=r"did you mean 'mixtral-8x7b'\? known are ling-lite, "):
        preset("mixtral-8x7")


def test_changing_a_presets_fields_changes_no_preset():
    preset_fields("ling-lite")["hidden"] = 1

    assert preset("ling-lite").hidden == 2048
