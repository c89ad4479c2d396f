"""What tables leave out of a model is found by the parameters that they print.

Sizes are those of the models' public configurations.
"""

import pytest

from everyflop.planner.rows.cells import NUMBERS
from everyflop.planner.rows.model import RowModel, row_model

SIZES = ("total_params_b", "active_params_b", "layers", "hidden", "ffn", "heads", "kv_heads", "vocab")
EXPERTS = ("experts", "topk", "expert_ffn", "shared_experts")
MODELS = {
    "llama3-8b": ((8.03, 8.03, 32, 4096, 14_336, 32, 8, 128_256), ()),
    "gpt3-175b": ((174.6, 174.6, 96, 12_288, 49_152, 96, 96, 51_200), ()),
    "mpt-7b": ((6.65, 6.65, 32, 4096, 16_384, 32, 32, 50_368), ()),
    "mixtral-8x22b": ((140.6, 39.1, 56, 6144, 16_384, 48, 8, 32_000), (8, 2, 16_384, 0)),
    "qwen3-30b": ((30.5, 3.3, 48, 2048, 6144, 32, 4, 151_936), (128, 8, 768, 0)),
    "deepseek-v3": ((671, 37, 61, 7168, 18_432, 128, 128, 129_280), (256, 8, 2048, 1)),
    "olmoe": ((6.9, 1.3, 16, 2048, 1024, 16, 16, 50_304), (64, 8, 1024, 0)),
}


def model(name: str, *, mla: bool = False, learned_positions: int = 0, **cells: float) -> RowModel:
    sizes, experts = MODELS[name]
    given = dict(zip(SIZES, map(float, sizes), strict=True)) | dict(zip(EXPERTS, map(float, experts), strict=False))
    return row_model({**dict.fromkeys(NUMBERS), **given, **cells}, mla=mla, learned_positions=learned_positions)


@pytest.mark.parametrize("name", MODELS)
def test_printed_parameters_are_reproduced(name):
    sizes, _ = MODELS[name]
    dims = model(name, mla=name == "deepseek-v3", learned_positions=2048).dims

    assert dims.total_parameters / 1e9 == pytest.approx(sizes[0], rel=0.02)
    assert dims.active_parameters / 1e9 == pytest.approx(sizes[1], rel=0.04)


@pytest.mark.parametrize(
    ("name", "head", "matrices", "tied"),
    [("llama3-8b", 128, 3, 0), ("gpt3-175b", 128, 2, 1), ("mpt-7b", 128, 2, 1), ("qwen3-30b", 128, 3, 0)],
)
def test_heads_mlp_and_embedding_are_those_of_the_public_configuration(name, head, matrices, tied):
    dims = model(name, learned_positions=2048).dims

    assert (dims.qk_dim, dims.dense_matrices, dims.tied) == (head, matrices, tied)


def test_positions_are_learned_only_where_the_parameters_say_so():
    # MPT has none: 65,536 positions would be 0.27 of its 6.65 B parameters.
    assert model("mpt-7b", learned_positions=65_536).dims.learned_positions == 0
    assert model("gpt3-175b", learned_positions=2048).dims.learned_positions == 2048 * 12_288


def test_latent_attention_is_found_where_a_table_prints_as_many_key_value_heads_as_heads():
    dims = model("deepseek-v3").dims

    assert (dims.qk_dim, dims.v_dim) == (128 + 64, 128)
    # q: down to 1536 and up; keys and values: down to 512 + 64, up to 128 + 128 for each head; output
    q, kv = 7168 * 1536 + 1536 * 128 * 192, 7168 * 576 + 512 * 128 * 256
    assert dims.attention_weights == q + kv + 128 * 128 * 7168


def test_plain_attention_is_not_taken_for_latent():
    assert model("olmoe").dims.qk_dim == 128


def test_an_active_count_that_no_sizes_explain_is_left_to_the_total():
    # Mixtral 8x22B cut into 64 experts of an eighth, 8 of them chosen, printed with the uncut model's active parameters
    found = model("mixtral-8x22b", experts=64, topk=8, expert_ffn=2048, ffn=2048)

    assert (found.dims.qk_dim, found.dims.n_dense_layers) == (128, 0)
    assert found.dims.active_parameters / 1e9 == pytest.approx(22.3, rel=0.01)
    assert found.notes[-1] == "its parameters differ from the printed counts by 56%"


def test_what_was_inferred_is_noted():
    assert model("llama3-8b").notes == ("model: head 128, gated MLP, 32 dense layers",)
