"""config.json to spec and back: published files, every way to write the same thing, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import InvalidFile, UsageError
from everyflop.model.families.rope import write_part
from everyflop.model.hf.config import parse_config, read_config, write_config
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset, preset_names

PUBLISHED: dict[str, dict] = json.loads(Path(__file__).with_name("published.json").read_text())
"""config.json of published models, by preset: from the vendors' repositories and copies of the hub pages."""

LING_LITE = PUBLISHED["ling-lite"]
LING_PLUS_56 = PUBLISHED["ling-plus-56"]
LING_MINI_20 = PUBLISHED["ling-mini-2.0"]
DEEPSEEK_V3 = PUBLISHED["deepseek-v3"]
QWEN3_30B = PUBLISHED["qwen3-30b-a3b"]
MIXTRAL_8X7B = PUBLISHED["mixtral-8x7b"]
OLMOE = PUBLISHED["olmoe-1b-7b"]
published = pytest.mark.parametrize("name", PUBLISHED)
presets = pytest.mark.parametrize("name", preset_names())


@published
def test_a_published_config_is_its_preset(name):
    assert parse_config(PUBLISHED[name]) == preset(name)


@published
def test_a_config_that_still_describes_the_model_is_kept_key_by_key(name):
    config = PUBLISHED[name]

    assert write_config(parse_config(config), config) == config


@presets
def test_a_written_config_reads_back_as_the_same_spec(name):
    config = write_config(preset(name))

    assert parse_config(json.loads(json.dumps(config))) == preset(name)


def test_a_ling_2_config_written_from_scratch_has_all_that_other_programs_look_for():
    config = write_config(preset("ling-mini-2.0"), dtype="bfloat16")

    expected = {key: value for key, value in LING_MINI_20.items() if key not in write_only}
    assert config.items() >= expected.items()


write_only = {
    "attention_dropout",
    "eos_token_id",
    "pad_token_id",
    "transformers_version",
    "use_cache",
    "moe_shared_expert_intermediate_size",
    "embedding_dropout",
    "output_dropout",
}
"""Keys that say nothing about the numbers."""


def test_a_config_written_from_scratch_names_no_token_that_the_vocabulary_may_lack():
    config = write_config(preset("ling-lite"))

    assert {config[f"{name}_token_id"] for name in ("bos", "eos", "pad")} == {None}


def test_how_weights_start_is_no_part_of_a_config():
    spec = preset("ling-mini-2.0")
    scaled = spec.model_copy(update={"embed_std": 1.0, "output_std": 0.01})

    assert write_config(scaled) == write_config(spec)


def test_a_ling_1_config_written_from_scratch_has_no_dropout():
    config = write_config(preset("ling-lite"))

    assert {config[f"{name}_dropout"] for name in ("attention", "embedding", "output")} == {0.0}


def test_token_ids_and_the_like_are_carried_into_a_config_of_another_shape():
    spec = parse_config(LING_MINI_20).model_copy(update={"n_layers": 4})

    config = write_config(spec, LING_MINI_20)

    assert (config["eos_token_id"], config["num_hidden_layers"]) == (156892, 4)


def test_the_dtype_is_written_under_the_name_the_file_uses():
    newer = {key: value for key, value in OLMOE.items() if key != "torch_dtype"} | {"dtype": "float32"}

    assert write_config(parse_config(newer), newer, dtype="bfloat16") == newer | {"dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "change", "fields"),
    [
        ("mixtral-8x7b", {"qk_norm": "head"}, "qk_norm"),
        (
            "mixtral-8x7b",
            {"dense_layers": (0,), "dense_width": 8},
            "dense_width, dense_layers|dense_layers, dense_width",
        ),
        ("ling-mini-2.0", {"dense_layers": (3,)}, "dense_layers"),
        ("ling-lite", {"rotary_dim": 64}, "rotary_dim"),
        ("qwen3-30b-a3b", {"n_shared_experts": 1}, "n_shared_experts"),
        ("qwen3-30b-a3b", {"qkv_bias": True}, "out_bias"),
        ("olmoe-1b-7b", {"head_dim": 64}, "head_dim"),
        ("ling-mini-2.0", {"normalise_weights": False}, "normalise_weights"),
        ("deepseek-v3", {"sliding_window": 128}, "sliding_window"),
    ],
)
def test_what_a_family_cannot_express_is_refused_with_the_fields_names(name, change, fields):
    spec = ModelSpec.model_validate(preset(name).model_dump() | change)

    with pytest.raises(UsageError, match=f"cannot express ({fields})"):
        write_config(spec)


@pytest.mark.parametrize(
    ("config", "change", "field", "value"),
    [
        (LING_MINI_20, {"rope_theta": None, "rope_parameters": {"rope_theta": 7e4}}, "rope_theta", 7e4),
        (LING_MINI_20, {"partial_rotary_factor": 0.25}, "rotary_dim", 32),
        (LING_MINI_20, {"partial_rotary_factor": 0.505}, "rotary_dim", 64),  # 64.64 channels: the rest is cut off
        (
            LING_MINI_20,
            {"partial_rotary_factor": None, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}},
            "rotary_dim",
            32,
        ),
        (LING_MINI_20, {"partial_rotary_factor": None}, "rotary_dim", None),
        (LING_MINI_20, {"head_dim": None}, "head_dim", 128),
        (LING_MINI_20, {"num_shared_experts": None}, "n_shared_experts", 0),
        (LING_MINI_20, {"num_experts_per_tok": 1}, "normalise_weights", False),
        (LING_MINI_20, {"num_nextn_predict_layers": 1}, "n_mtp_layers", 1),
        (LING_MINI_20, {"mtp_loss_scaling_factor": 0.1}, "mtp_loss_weight", 0.1),
        (LING_PLUS_56, {"head_dim": None}, "head_dim", 96),
        (LING_LITE, {"first_k_dense_replace": 2}, "dense_layers", (0, 1)),
        (LING_LITE, {"first_k_dense_replace": 2}, "dense_width", 5632),
        (LING_LITE, {"norm_topk_prob": False}, "normalise_weights", False),
        (QWEN3_30B, {"mlp_only_layers": [1, 40], "decoder_sparse_step": 2}, "dense_layers", (0, 1, *range(2, 48, 2))),
        (QWEN3_30B, {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}, "sliding_window", 64),
        (QWEN3_30B, {"use_sliding_window": False, "sliding_window": 64}, "sliding_window", None),
        (QWEN3_30B, {"head_dim": None}, "head_dim", 64),
        (MIXTRAL_8X7B, {"sliding_window": 4096}, "sliding_window", 4096),
        (OLMOE, {"clip_qkv": 8.0}, "clip_qkv", 8.0),
        (OLMOE, {"num_key_value_heads": None}, "n_kv_heads", 16),
        (DEEPSEEK_V3, {"q_lora_rank": None}, "q_rank", None),
        (DEEPSEEK_V3, {"rope_interleave": False}, "rope_interleaved", False),
    ],
)  # fmt: skip
def test_a_key_sets_its_field(config, change, field, value):
    assert getattr(parse_config(config | change), field) == value


@pytest.mark.parametrize(
    ("config", "key", "field", "default"),
    [
        (LING_LITE, "use_bias", "out_bias", True),
        (LING_LITE, "norm_head", "norm_head", False),
        (LING_LITE, "rope_theta", "rope_theta", 10_000.0),
        (LING_LITE, "initializer_range", "init_std", 0.02),
        (LING_MINI_20, "routed_scaling_factor", "routed_scale", 1.0),
        (LING_MINI_20, "use_qk_norm", "qk_norm", "head"),
        (LING_MINI_20, "first_k_dense_replace", "dense_layers", (0,)),
        (QWEN3_30B, "norm_topk_prob", "normalise_weights", False),
        (QWEN3_30B, "rope_theta", "rope_theta", 10_000.0),
        (MIXTRAL_8X7B, "rope_theta", "rope_theta", 1_000_000.0),
        (MIXTRAL_8X7B, "num_key_value_heads", "n_kv_heads", 8),
        (DEEPSEEK_V3, "q_lora_rank", "q_rank", 1536),
        (DEEPSEEK_V3, "first_k_dense_replace", "dense_layers", (0, 1, 2)),
    ],
)
def test_an_absent_key_means_the_default_of_the_familys_own_class(config, key, field, default):
    without = {name: value for name, value in config.items() if name != key}

    assert getattr(parse_config(without), field) == default


YARN = {"type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    ("config", "scaling", "expected"),
    [
        (LING_LITE, YARN, {"original_max_positions": 4096}),
        (LING_LITE, {**YARN, "mscale": 1, "mscale_all_dim": 0}, {"mscale": None}),
        (LING_MINI_20, {"rope_type": "yarn", "factor": 4}, {"original_max_positions": 32768}),
        (LING_MINI_20, {**YARN, "original_max_position_embeddings": 4096}, {"factor": 4.0}),
        (QWEN3_30B, {**YARN, "rope_type": "yarn", "beta_fast": 16}, {"beta_fast": 16.0}),
        (QWEN3_30B, {**YARN, "factor": None, "original_max_position_embeddings": 4096}, {"factor": 10.0}),
    ],
)
def test_yarn_is_read_as_the_familys_code_reads_it(config, scaling, expected):
    yarn = parse_config(config | {"rope_scaling": scaling}).yarn

    assert {name: getattr(yarn, name) for name in expected} == expected


def test_several_names_of_one_thing_may_stand_together_if_they_agree():
    assert parse_config(LING_LITE | {"n_routed_experts": 64}) == preset("ling-lite")


ORIGINAL_0 = {"original_max_position_embeddings": 0}
REFUSED = [
    (LING_LITE, {"n_routed_experts": 32}, ["num_experts"]),
    (LING_LITE, {"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling.rope_type"]),
    (LING_LITE, {"rope_scaling": {**YARN, "mscale": 0.7}}, ["rope_scaling"]),
    (LING_LITE, {"rope_scaling": {**YARN, "attention_factor": 1.1}}, ["rope_scaling"]),
    (LING_LITE, {"partial_rotary_factor": 0.5}, ["partial_rotary_factor"]),
    (QWEN3_30B, {"rope_scaling": {**YARN, **ORIGINAL_0}}, ["rope_scaling.original_max_position_embeddings"]),
    (
        QWEN3_30B,
        {"rope_scaling": {**YARN, **ORIGINAL_0, "factor": None}},
        ["rope_scaling.original_max_position_embeddings"],
    ),
    (QWEN3_30B, {"rope_scaling": {**YARN, "beta_fast": 0}}, ["rope_scaling.beta_fast"]),
    (QWEN3_30B, {"rope_scaling": {**YARN, "beta_slow": 0}}, ["rope_scaling.beta_slow"]),
    (QWEN3_30B, {"rope_scaling": YARN, "rope_theta": 1.0}, ["rope_theta"]),
    (
        QWEN3_30B,
        {"rope_scaling": {**YARN, "factor": None}, "max_position_embeddings": "x"},
        ["max_position_embeddings"],
    ),
    (LING_LITE, {"rotary_dim": 64}, ["rotary_dim"]),
    (LING_LITE, {"use_sliding_window": True}, ["use_sliding_window"]),
    (LING_MINI_20, {"score_function": "softmax"}, ["score_function"]),
    (LING_MINI_20, {"moe_router_enable_expert_bias": False}, ["moe_router_enable_expert_bias"]),
    (LING_MINI_20, {"norm_head": True}, ["norm_head"]),
    (LING_MINI_20, {"rotary_dim": 32}, ["rotary_dim"]),
    (LING_MINI_20, {"num_nextn_predict_layers": 2}, ["num_nextn_predict_layers"]),
    (LING_MINI_20, {"n_group": 7}, ["n_group"]),
    (LING_MINI_20, {"layer_group_size": 5}, ["layer_group_size"]),
    (LING_MINI_20, {"hidden_act": "gelu"}, ["hidden_act"]),
    (LING_MINI_20, {"rope_scaling": {**YARN, "surprise": 1}}, ["rope_scaling.surprise"]),
    (LING_MINI_20, {"rope_scaling": {"factor": 2.0}}, ["rope_scaling.factor"]),
    (LING_MINI_20, {"rope_scaling": "yarn"}, ["rope_scaling"]),
    (LING_MINI_20, {"rope_parameters": {"rope_theta": 1e4}}, ["rope_theta"]),
    (LING_MINI_20, {"num_experts_per_tok": "8"}, ["num_experts_per_tok"]),
    (LING_MINI_20, {"num_hidden_layers": True}, ["num_hidden_layers"]),
    (LING_MINI_20, {"num_hidden_layers": 20.0}, ["num_hidden_layers"]),
    (LING_MINI_20, {"use_bias": 1}, ["use_bias"]),
    (LING_MINI_20, {"hidden_size": -1}, ["hidden_size"]),
    (LING_MINI_20, {"num_key_value_heads": 5}, ["n_heads|num_attention_heads"]),
    (DEEPSEEK_V3, {"quantization_config": {"quant_method": "fp8"}}, ["quantization_config"]),
    (DEEPSEEK_V3, {"topk_method": "greedy", "scoring_func": "softmax"}, ["topk_method", "scoring_func"]),
    (DEEPSEEK_V3, {"moe_layer_freq": 2}, ["moe_layer_freq"]),
    (DEEPSEEK_V3, {"first_k_dense_replace": -1}, ["first_k_dense_replace"]),
    (DEEPSEEK_V3, {"head_dim": 128}, ["head_dim"]),
    (QWEN3_30B, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, ["rope_parameters.rope_type"]),
    (QWEN3_30B, {"use_sliding_window": True, "sliding_window": 64}, ["max_window_layers"]),
    (QWEN3_30B, {"mlp_only_layers": "0"}, ["mlp_only_layers"]),
    (QWEN3_30B, {"decoder_sparse_step": 0}, ["decoder_sparse_step"]),
    (QWEN3_30B, {"layer_types": ["full_attention"]}, ["layer_types"]),
    (OLMOE, {"head_dim": 64}, ["head_dim"]),
    (OLMOE, {"sliding_window": 64}, ["sliding_window"]),
    (MIXTRAL_8X7B, {"attention_bias": True}, ["attention_bias"]),
    (MIXTRAL_8X7B, {"is_encoder_decoder": True}, ["is_encoder_decoder"]),
]


@pytest.mark.parametrize(("config", "change", "keys"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_implemented_is_refused_by_the_name_of_its_key(config, change, keys):
    with pytest.raises(InvalidFile) as caught:
        parse_config(config | change)

    found = [problem.key for problem in caught.value.problems]
    assert len(found) == len(keys)
    assert all(one in wanted.split("|") for one, wanted in zip(sorted(found), sorted(keys), strict=True))


def test_all_problems_are_listed_at_once():
    bad = LING_MINI_20 | {"hidden_act": "gelu", "new_gate": True, "vocab_size": None, "rms_norm_eps": "small"}
    del bad["hidden_size"]

    with pytest.raises(InvalidFile) as caught:
        parse_config(bad, "some/config.json")

    assert {problem.key for problem in caught.value.problems} == {
        "hidden_act", "new_gate", "vocab_size", "rms_norm_eps", "hidden_size",
    }  # fmt: skip
    assert str(caught.value).startswith("some/config.json: 5 problems")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("key", ["vocab_size", "num_experts", "num_experts_per_tok", "moe_intermediate_size"])
def test_a_size_that_is_missing_is_never_guessed(key):
    with pytest.raises(InvalidFile, match=f"{key}: is missing"):
        parse_config({name: value for name, value in LING_MINI_20.items() if name != key})


@pytest.mark.parametrize(
    "names", [None, [], ["LlamaForCausalLM"], "BailingMoeForCausalLM", [1], ["MixtralForCausalLM"] * 2]
)
def test_an_unknown_architecture_is_refused_with_the_known_ones(names):
    with pytest.raises(InvalidFile, match=r"architectures: .*BailingMoeV2ForCausalLM"):
        parse_config(LING_MINI_20 | {"architectures": names})


def test_the_model_type_decides_nothing():
    assert parse_config(LING_MINI_20 | {"model_type": "mixtral"}) == preset("ling-mini-2.0")


def test_private_and_descriptive_keys_pass():
    extra = {
        "_name_or_path": "x",
        "_attn_implementation": "sdpa",
        "name_or_path": "x",
        "id2label": {"0": "a"},
        "new": None,
    }

    assert parse_config(LING_MINI_20 | extra) == preset("ling-mini-2.0")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"architectures": ', b"\xff\xfe"])
def test_a_config_that_is_no_json_table_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(InvalidFile, match=r"config\.json: 1 problem"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("path", "what"), [("missing", "does not exist"), ("file", "is a file"), (".", "has no config.json")]
)
def test_a_path_that_is_no_model_folder_is_a_usage_error(tmp_path, path, what):
    (tmp_path / "file").write_text("x")

    with pytest.raises(UsageError, match=what):
        read_config(tmp_path / path)


@given(
    st.integers(1, 512).flatmap(lambda half: st.tuples(st.integers(1, half).map(lambda r: 2 * r), st.just(2 * half)))
)
def test_any_number_of_rotated_channels_survives_as_a_factor(rotated_and_head):
    rotated, head_dim = rotated_and_head
    spec = preset("ling-mini-2.0").model_copy(update={"rotary_dim": rotated, "head_dim": head_dim})

    factor = write_part(spec)["partial_rotary_factor"]

    assert int(head_dim * factor) == rotated


STRANGE = [
    None,
    -1,
    0,
    1,
    7,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    True,
    False,
    [],
    [1],
    {},
    {"type": "yarn"},
    10**30,
]


@published
def test_a_strange_value_of_any_key_is_refused_by_name_or_makes_a_model_that_can_be_written(name):
    for key in PUBLISHED[name]:
        for value in STRANGE:
            config = PUBLISHED[name] | {key: value}

            problems = problems_of(config)

            assert problems or parse_config(write_config(parse_config(config))) == parse_config(config), (key, value)


def problems_of(config):
    try:
        parse_config(config)
    except InvalidFile as error:
        return [problem.key for problem in error.problems] or pytest.fail("refused without a reason")
    return []
