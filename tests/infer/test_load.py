"""One model, kept as a checkpoint, as a run directory and as an HF directory: all three load as the same model."""

from pathlib import Path

import pytest
import torch

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.checkpoint import save
from everyflop.infer.load import (
    begin_id,
    end_ids,
    is_hf,
    load_checkpoint,
    load_model,
    read_spec,
    read_weights,
    tokenizer_file,
)
from everyflop.model.build import build_model
from everyflop.model.hf.save import save_hf
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

IDS = torch.tensor([[1, 2, 3, 4]])
STEP = "step-00000003"


@pytest.fixture(scope="module")
def model() -> CausalLM:
    sizes = {"vocab_size": 20, "hidden": 8, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 4}
    experts = {"n_experts": 4, "experts_per_token": 2, "expert_width": 4, "n_shared_experts": 1}
    spec = ModelSpec(family="ling-v2", **sizes, **experts, dense_layers=(0,), dense_width=8, init_std=0.3)
    built = build_model(spec, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)
    built.layers[1].ffn.router.expert_bias.copy_(torch.tensor([0.1, -0.2, 0.3, 0.001]))
    return built


@pytest.fixture(scope="module")
def home(model, tmp_path_factory) -> Path:
    """A folder with "run", a run directory of two checkpoints, and "hf", an HF directory."""
    folder = tmp_path_factory.mktemp("home")
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for step, scale in ((2, 0.5), (3, 1.0)):
        weights = {name: tensor * scale for name, tensor in tensors.items()}
        optimizer = {"exp_avg.norm.weight": torch.ones(8)}
        files = {"model.json": model.spec.model_dump_json().encode(), "tokenizer.json": b"{}"}
        save(folder / "run" / "checkpoints", step, tensors=weights | optimizer, state={}, files=files, keep=3)
    save_hf(model, folder / "hf")
    return folder


HOMES = pytest.mark.parametrize("where", ["run", "run/checkpoints", f"run/checkpoints/{STEP}", "hf"])


@HOMES
def test_a_model_loads_from_each_of_its_homes_with_the_same_bits(model, home, where):
    loaded = load_model(home / where)

    assert loaded.spec == model.spec
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded(IDS), model(IDS))


@HOMES
def test_the_spec_is_read_from_each_home(model, home, where):
    assert read_spec(home / where) == model.spec


@HOMES
def test_weights_have_our_names_and_nothing_of_the_optimizer(model, home, where):
    weights = read_weights(home / where)

    assert weights.spec == model.spec
    assert weights.tensors.keys() == model.state_dict().keys()


def test_a_paths_text_will_do(model, home):
    assert torch.equal(load_model(str(home / "run"))(IDS), model(IDS))


def test_loaded_parameters_can_be_trained(home):
    loaded = load_checkpoint(home / "run")

    loaded.loss(IDS).backward()

    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())
    assert loaded.embed.weight.grad.any()


@HOMES
def test_another_type_is_for_parameters_and_never_for_expert_biases(model, home, where):
    loaded = load_model(home / where, torch.bfloat16)

    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    (bias,) = loaded.buffers()
    assert bias.dtype == torch.float32
    assert torch.equal(bias, next(model.buffers()))
    assert torch.equal(loaded.embed.weight, model.embed.weight.bfloat16())


def test_an_hf_directory_is_known_by_its_config(home):
    assert is_hf(home / "hf")
    assert not is_hf(home / "run")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("")], ids=["missing", "a file"])
def test_what_is_no_folder_is_refused(tmp_path, make):
    make(tmp_path / "model")

    with pytest.raises(UsageError, match="model is no folder"):
        load_model(tmp_path / "model")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UsageError):
        load_model(tmp_path)


def test_a_damaged_checkpoint_is_never_loaded(home, tmp_path):
    copy = tmp_path / STEP
    copy.mkdir()
    for file in (home / "run" / "checkpoints" / STEP).iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            content[-1] ^= 1
        (copy / file.name).write_bytes(content)

    with pytest.raises(DamagedFile):
        load_model(copy)


def test_a_checkpoint_brings_its_tokenizer(home):
    assert tokenizer_file(home / "run") == home / "run" / "checkpoints" / STEP / "tokenizer.json"


def test_an_hf_directory_without_a_tokenizer_says_so(home, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"has no tokenizer\.json"):
        tokenizer_file(tmp_path)

    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_file(tmp_path) == tmp_path / "tokenizer.json"


def test_a_model_begins_and_ends_texts_as_what_it_was_published_as_does_also_after_import(model, tmp_path):
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    known = {"model.json": model.spec.model_dump_json().encode()}
    said = {
        "hf_config.json": b'{"bos_token_id": 7, "eos_token_id": 1}',
        "generation_config.json": b'{"eos_token_id": [1, 2]}',
    }
    for name, files in {"own": {}, "imported": said}.items():
        save(tmp_path / name / "checkpoints", 1, tensors=weights, state={}, files=known | files, keep=1)

    assert (begin_id(tmp_path / "own"), end_ids(tmp_path / "own")) == (None, set())
    assert (begin_id(tmp_path / "imported"), end_ids(tmp_path / "imported")) == (7, {1, 2})
