"""What is wrong with a folder is said in full, with the names of tensors and files, and nothing is loaded."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from everyflop.base.errors import DamagedFile, InvalidFile, UsageError
from everyflop.model.hf.config import read_config
from everyflop.model.hf.load import load_hf, load_tensors
from everyflop.model.hf.save import save_hf

NORM = "model.norm.weight"
GATE = "model.layers.1.mlp.experts.5.gate_proj.weight"


@pytest.fixture
def config(ling_v2_config):
    return ling_v2_config()


@pytest.fixture
def tensors(bailing, config):
    return {
        name: torch.as_tensor(tensor).float()
        for name, tensor in bailing.random_tensors(config, np.random.default_rng(0)).items()
    }


@pytest.fixture
def sharded(config, tensors, write_folder, tmp_path):
    """A folder of several shards with an index."""
    save_hf(load_hf(write_folder(config, tensors)), tmp_path / "sharded", max_shard_bytes=9000)
    return tmp_path / "sharded"


def shard(folder, number):
    """The path of a shard, counted from 1."""
    return sorted(folder.glob("model-*.safetensors"))[number - 1]


def edit_index(folder, change):
    index = json.loads((folder / "model.safetensors.index.json").read_bytes())
    change(index["weight_map"])
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def refused(folder, *found):
    """Load the folder, expect exit 3, and each of the texts in the one message."""
    with pytest.raises(DamagedFile) as caught:
        load_hf(folder)
    assert caught.value.exit_code == 3
    for text in found:
        assert re.search(text, str(caught.value)), str(caught.value)


def test_weights_are_kept_as_stored_or_cast_as_asked(config, tensors, write_folder):
    folder = write_folder(config, {name: t if "bias" in name else t.bfloat16() for name, t in tensors.items()})

    stored, cast = load_hf(folder), load_hf(folder, torch.float32)

    assert {name.endswith("bias"): t.dtype for name, t in stored.state_dict().items()} == {
        False: torch.bfloat16,
        True: torch.float32,
    }
    assert {t.dtype for t in cast.state_dict().values()} == {torch.float32}
    assert torch.equal(cast.get_parameter("norm.weight"), tensors[NORM].bfloat16().float())


def test_an_expert_bias_stays_fp32_in_a_bf16_model(config, tensors, write_folder):
    model = load_hf(write_folder(config, tensors), torch.bfloat16)

    assert model.get_buffer("layers.1.ffn.router.expert_bias").dtype == torch.float32
    assert model(torch.zeros(1, 3, dtype=torch.int64)).dtype == torch.float32


def test_all_parameters_can_be_trained(config, tensors, write_folder):
    model = load_hf(str(write_folder(config, tensors)))

    model.loss(torch.arange(8)[None]).backward()

    assert all(parameter.grad is not None for parameter in model.parameters())


def test_tensors_come_under_our_names(config, tensors, write_folder):
    folder = write_folder(config, tensors)

    found = load_tensors(folder, read_config(folder)[0])

    assert found.keys() == load_hf(folder).state_dict().keys()
    assert torch.equal(found["layers.1.ffn.experts.gate_up"][5, :6], tensors[GATE])


def test_every_missing_extra_and_misshapen_tensor_is_named_at_once(config, tensors, write_folder):
    del tensors[NORM]
    tensors["model.layers.1.mlp.gate.extra"] = torch.zeros(2)
    tensors[GATE] = tensors[GATE].T.contiguous()

    refused(
        write_folder(config, tensors),
        r"tensor model\.norm\.weight is missing",
        r"tensor model\.layers\.1\.mlp\.gate\.extra in model\.safetensors has no place",
        r"experts\.5\.gate_proj\.weight in model\.safetensors is \[16, 6\], config\.json says \[6, 16\]",
    )


def test_a_layer_more_than_config_json_says_is_refused(config, tensors, write_folder):
    refused(
        write_folder(config | {"num_hidden_layers": 1}, tensors), r"model\.layers\.1\.input_layernorm.* has no place"
    )


def test_an_mtp_layer_promised_and_not_there_is_refused(config, tensors, write_folder):
    refused(
        write_folder(config | {"num_nextn_predict_layers": 1}, tensors), r"model\.layers\.2\.eh_proj\.weight is missing"
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn, torch.bool])
def test_a_tensor_that_is_no_plain_float_is_refused(config, tensors, write_folder, dtype):
    tensors[NORM] = torch.ones(16).to(dtype)

    refused(
        write_folder(config, tensors), r"tensor model\.norm\.weight in model\.safetensors has type \w+, and one of F64"
    )


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(config, tensors, write_folder, keep):
    file = write_folder(config, tensors) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])

    refused(file.parent, r"model\.safetensors is truncated or no safetensors file")


def test_a_file_of_something_else_is_refused(config, tensors, write_folder):
    file = write_folder(config, tensors) / "model.safetensors"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 9)

    refused(file.parent, r"model\.safetensors is truncated or no safetensors file")


def test_a_folder_without_tensor_files_is_refused(config, tensors, write_folder):
    folder = write_folder(config, tensors)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    refused(folder, r"has neither model\.safetensors nor .*index\.json.*pytorch_model\.bin would have to be converted")


def test_a_shard_that_the_index_names_and_is_not_there_is_named(sharded):
    shard(sharded, 2).unlink()

    refused(sharded, r"model-00002-of-\d+\.safetensors does not exist")


def test_a_truncated_shard_is_named(sharded):
    file = shard(sharded, 3)
    file.write_bytes(file.read_bytes()[:-8])

    refused(sharded, r"model-00003-of-\d+\.safetensors is truncated")


def test_an_index_that_places_a_tensor_in_the_wrong_file_is_refused(sharded):
    edit_index(sharded, lambda placed: placed.update({NORM: shard(sharded, 1).name}))

    refused(
        sharded,
        r"tensor model\.norm\.weight is not in model-00001\S+, where .*index\.json places it",
    )


def test_a_tensor_that_the_index_leaves_out_is_named(sharded):
    edit_index(sharded, lambda placed: placed.pop(NORM))

    refused(sharded, r"tensor model\.norm\.weight is in model-\d+\S+ and not in .*index\.json")


def test_a_tensor_in_two_shards_is_refused(sharded):
    file = shard(sharded, 1)
    save_file({**load_file(file), NORM: torch.ones(16)}, file)

    refused(sharded, r"tensor model\.norm\.weight is in both model-00001\S+ and model-0")


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"metadata": {}}'])
def test_an_index_that_cannot_be_read_is_refused(sharded, content):
    (sharded / "model.safetensors.index.json").write_text(content)

    refused(sharded, r"model\.safetensors\.index\.json (cannot be read|has no weight_map)")


def test_an_index_that_points_outside_the_folder_is_refused(sharded):
    edit_index(sharded, lambda placed: placed.update({NORM: "../hf/model.safetensors"}))

    refused(sharded, r"names files outside the folder: '\.\./hf/model\.safetensors'")


@pytest.mark.parametrize("name", ["", "..", ".", "x" * 300, "a\0b", "\ud800"], ids=ascii)
def test_an_index_with_a_name_that_no_tensor_file_can_have_is_refused_by_that_name(sharded, name):
    edit_index(sharded, lambda placed: placed.update({NORM: name}))

    refused(sharded, re.escape(repr(name) if len(name) < 3 and name.isascii() else name))


def test_one_file_beside_an_index_of_others_is_refused(sharded, tensors):
    save_file(tensors, sharded / "model.safetensors")

    refused(sharded, r"both model\.safetensors and .*index\.json with other files are there")


def test_problems_of_several_files_come_in_one_message(sharded):
    gone, file = shard(sharded, 2), shard(sharded, 3)
    gone.unlink()
    file.write_bytes(file.read_bytes()[:-8])

    refused(sharded, r"model-00002\S+ does not exist", r"model-00003\S+ is truncated")


def test_a_stored_output_matrix_of_tied_embeddings_must_be_equal_to_them(bailing, ling_v1_config, write_folder):
    config = ling_v1_config(tie_word_embeddings=True, norm_head=False)
    tensors = bailing.random_tensors(config, np.random.default_rng(0))
    tensors["lm_head.weight"] = tensors["model.word_embeddings.weight"] + 1

    refused(write_folder(config, tensors), r"tensor lm_head\.weight .* differs from model\.word_embeddings\.weight")


def test_config_problems_come_before_any_tensor_is_read(config, write_folder):
    with pytest.raises(InvalidFile, match="hidden_act"):
        load_hf(write_folder(config | {"hidden_act": "gelu"}, {}))


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_hf(tmp_path / "nowhere")


def test_the_message_names_the_first_twenty_problems_and_counts_the_rest(config, write_folder):
    refused(write_folder(config, {NORM: torch.ones(16)}), r"\n  - and \d+ more$")


def test_loading_shows_each_tensor_of_the_files_once(sharded, tensors, recorder):
    load_tensors(sharded, read_config(sharded)[0], progress=recorder)

    assert recorder.shown == [["Reading sharded", len(tensors), "tensors", len(tensors)]]
