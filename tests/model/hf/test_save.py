"""Round trips: what was loaded is saved again bit by bit, in one file or many."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from everyflop.base.errors import UsageError
from everyflop.model.build import build_model
from everyflop.model.hf.load import load_hf
from everyflop.model.hf.save import save_hf, save_tensors
from everyflop.spec.model import ModelSpec


@pytest.fixture(params=["ling-v1", "ling-v2", "Mixtral", "Qwen3Moe", "Olmoe", "DeepseekV3"])
def folder(request, bailing, ling_v1_config, ling_v2_config, transformers_model, write_folder, tmp_path):
    """A folder of each family, in bf16 with fp32 expert biases."""
    if request.param.startswith("ling"):
        mtp = {"num_nextn_predict_layers": 1, "mtp_loss_scaling_factor": 0.1}
        config = ling_v1_config() if request.param == "ling-v1" else ling_v2_config(**mtp)
        tensors = bailing.random_tensors(config, np.random.default_rng(0))
    else:
        model = transformers_model(request.param)
        model.save_pretrained(tmp_path / "fp32")
        config = json.loads((tmp_path / "fp32" / "config.json").read_bytes())
        tensors = load_file(tmp_path / "fp32" / "model.safetensors")
    config["torch_dtype"] = "bfloat16"
    config.pop("dtype", None)
    as_stored = {name: torch.as_tensor(tensor).float() for name, tensor in tensors.items()}
    return write_folder(config, {n: t if "bias" in n else t.bfloat16() for n, t in as_stored.items()})


def tensors_in(folder):
    tensors = {}
    for file in folder.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert name not in tensors
            tensors[name] = tensor
    return tensors


def assert_same_tensors(one, two):
    one, two = tensors_in(one), tensors_in(two)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert tensor.dtype == two[name].dtype, name
        assert torch.equal(tensor.view(torch.uint8), two[name].view(torch.uint8)), name


@pytest.mark.parametrize("max_shard_bytes", [10**9, 3000])
def test_load_and_save_give_back_every_bit_and_every_key(folder, tmp_path, max_shard_bytes):
    save_hf(load_hf(folder), tmp_path / "again", max_shard_bytes=max_shard_bytes)

    assert_same_tensors(folder, tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_bytes()) == json.loads(
        (folder / "config.json").read_bytes()
    )


def test_shards_stay_below_the_limit_and_the_index_places_every_tensor(folder, tmp_path):
    save_hf(load_hf(folder), tmp_path / "again", max_shard_bytes=3000)

    index = json.loads((tmp_path / "again" / "model.safetensors.index.json").read_bytes())
    files = sorted((tmp_path / "again").glob("*.safetensors"))
    assert [file.name for file in files] == [
        f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)
    ]
    total = 0
    for file in files:
        held = load_file(file)
        size = sum(tensor.nbytes for tensor in held.values())
        assert size <= 3000 or len(held) == 1
        assert all(index["weight_map"][name] == file.name for name in held)
        total += size
    assert index["metadata"]["total_size"] == total
    assert len(index["weight_map"]) == len(tensors_in(folder))


def test_sharded_files_load_like_one_file(folder, tmp_path):
    save_hf(load_hf(folder), tmp_path / "again", max_shard_bytes=3000)

    one, two = load_hf(folder).state_dict(), load_hf(tmp_path / "again").state_dict()

    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_dtype_given_is_written_and_the_expert_bias_stays_fp32(folder, tmp_path):
    save_hf(load_hf(folder, torch.float32), tmp_path / "again", dtype=torch.bfloat16)

    kinds = {tensor.dtype for name, tensor in tensors_in(tmp_path / "again").items() if "bias" not in name}
    assert kinds == {torch.bfloat16}
    assert all(t.dtype == torch.float32 for n, t in tensors_in(tmp_path / "again").items() if n.endswith("_bias"))
    assert json.loads((tmp_path / "again" / "config.json").read_bytes())["torch_dtype"] == "bfloat16"


def test_a_dtype_asked_for_when_loading_is_what_is_saved(folder, tmp_path):
    save_hf(load_hf(folder, torch.float32), tmp_path / "again")

    assert {tensor.dtype for tensor in tensors_in(tmp_path / "again").values()} == {torch.float32}
    assert json.loads((tmp_path / "again" / "config.json").read_bytes())["torch_dtype"] == "float32"


@pytest.fixture
def mixed(bailing, ling_v2_config, write_folder):
    """A folder whose types differ within what we fuse into one tensor, with a bf16 expert bias."""
    config = ling_v2_config()
    tensors = {
        n: torch.as_tensor(t).bfloat16() for n, t in bailing.random_tensors(config, np.random.default_rng(0)).items()
    }
    tensors["model.layers.1.mlp.experts.3.up_proj.weight"] = tensors[
        "model.layers.1.mlp.experts.3.up_proj.weight"
    ].half()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    return write_folder(config, tensors)


def test_types_that_differ_from_tensor_to_tensor_come_back(mixed, tmp_path):
    save_hf(load_hf(mixed), tmp_path / "again")

    assert_same_tensors(mixed, tmp_path / "again")


def test_a_tensor_changed_beyond_its_old_type_is_saved_in_its_own(mixed, tmp_path):
    model = load_hf(mixed)
    with torch.no_grad():
        model.get_parameter("layers.1.ffn.experts.gate_up")[0, 0, 0] = 1 + 2**-20  # no bf16 number

    save_hf(model, tmp_path / "again")

    name = "model.layers.1.mlp.experts.0.gate_proj.weight"
    assert tensors_in(tmp_path / "again")[name].flatten()[0] == 1 + 2**-20


OURS = {
    "vocab_size": 50,
    "hidden": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "n_experts": 8,
    "experts_per_token": 2,
    "expert_width": 8,
    "n_shared_experts": 1,
}
DENSE_FIRST = {"dense_layers": (0,), "dense_width": 24, "n_groups": 4, "keep_groups": 2}
MTP = {"n_mtp_layers": 1, "mtp_loss_weight": 0.1}
MLA = {"q_rank": 8, "kv_rank": 6, "nope_head_dim": 4, "rope_head_dim": 8, "v_head_dim": 4}
SPECS = [
    {**OURS, **DENSE_FIRST, **MTP, "family": "ling-v2", "rotary_dim": 4},
    {**OURS, "family": "ling-v1"},
    {**OURS, **DENSE_FIRST, **MTP, **MLA, "n_kv_heads": 4, "family": "deepseek-v3"},
]


@pytest.mark.parametrize("fields", SPECS, ids=lambda fields: fields["family"])
def test_a_model_of_our_own_comes_back_as_the_same_spec_and_weights(tmp_path, fields):
    spec = ModelSpec.model_validate(fields)
    model = build_model(spec, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)

    save_hf(model, tmp_path / "out")

    again = load_hf(tmp_path / "out")
    assert again.spec == spec
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())


def test_tied_embeddings_are_stored_once_unless_the_source_stored_them_twice(
    bailing, ling_v1_config, write_folder, tmp_path
):
    config = ling_v1_config(tie_word_embeddings=True, norm_head=False)
    tensors = bailing.random_tensors(config, np.random.default_rng(0))
    save_hf(load_hf(write_folder(config, tensors, "once")), tmp_path / "a")
    tensors["lm_head.weight"] = tensors["model.word_embeddings.weight"].copy()
    save_hf(load_hf(write_folder(config, tensors, "twice")), tmp_path / "b")

    assert "lm_head.weight" not in tensors_in(tmp_path / "a")
    assert "lm_head.weight" in tensors_in(tmp_path / "b")


def test_rotary_tables_of_old_checkpoints_are_ignored(bailing, ling_v1_config, write_folder):
    config = ling_v1_config()
    tensors = bailing.random_tensors(config, np.random.default_rng(0))
    tensors["model.layers.0.attention.rotary_emb.inv_freq"] = torch.arange(4)

    assert load_hf(write_folder(config, tensors)).hf_config == config


def test_files_given_are_written_beside(folder, tmp_path):
    save_hf(load_hf(folder), tmp_path / "again", files={"tokenizer.json": b"{}"})

    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == b"{}"


def test_an_existing_folder_is_never_overwritten(folder, tmp_path):
    before = sorted(path.name for path in folder.iterdir())

    with pytest.raises(UsageError, match="exists already"):
        save_hf(load_hf(folder), folder)

    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_empty_folder_may_be_filled(folder, tmp_path):
    (tmp_path / "empty").mkdir()

    save_hf(load_hf(folder), tmp_path / "empty")

    assert_same_tensors(folder, tmp_path / "empty")


def test_a_save_that_fails_leaves_nothing(folder, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_hf(load_hf(folder), tmp_path / "again", files={"no/such/folder": b""})

    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".tmp*"))


def test_a_shard_limit_below_one_byte_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="max_shard_bytes is 0"):
        save_hf(load_hf(folder), tmp_path / "again", max_shard_bytes=0)


def test_safetensors_metadata_says_pt_as_transformers_wants_it(folder, tmp_path):
    from safetensors import safe_open

    save_hf(load_hf(folder), tmp_path / "again")

    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_stored_fp64_model_computes_in_fp64(bailing, ling_v2_config, write_folder):
    config = ling_v2_config()
    folder = write_folder(config, bailing.random_tensors(config, np.random.default_rng(0)))

    assert load_hf(folder)(torch.zeros(1, 3, dtype=torch.int64)).dtype == torch.float64


def test_saving_shows_each_tensor_of_the_files_once(folder, tmp_path, recorder):
    model, n_stored = load_hf(folder, torch.float32), len(tensors_in(folder))
    save_tensors(
        model.spec, model.state_dict(), tmp_path / "again", config=None, source=None, max_shard_bytes=3000, files={},
        progress=recorder,
    )  # fmt: skip

    assert recorder.shown == [["Writing", n_stored, "tensors", n_stored]]
