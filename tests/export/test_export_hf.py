"""A trained checkpoint becomes a folder that others load."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.export.export_hf import export_checkpoint
from everyflop.model.hf.load import load_hf

IDS = torch.tensor([[0, 5, 17, 250, 3, 9]])


@pytest.mark.parametrize("family", ["ling-v1", "ling-v2", "mixtral", "qwen3-moe", "olmoe"])
def test_the_exported_model_computes_the_same(trained, tmp_path, family):
    fields = {"head_dim": 4} if family == "olmoe" else {}
    model, path = trained(family, **fields)

    done = export_checkpoint(path, tmp_path / "hf")

    assert torch.equal(load_hf(tmp_path / "hf")(IDS), model(IDS))
    assert done.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (done.dtype, done.tensors, done.path) == ("float32", len(model.state_dict()), tmp_path / "hf")


@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe", "olmoe"])
def test_transformers_loads_the_exported_model_and_computes_the_same(trained, tmp_path, family):
    import transformers

    model, path = trained(family, **({"head_dim": 4} if family == "olmoe" else {}))
    export_checkpoint(path, tmp_path / "hf")

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()

    torch.testing.assert_close(theirs(IDS).logits, model(IDS), atol=1e-5, rtol=0)
    assert theirs.config.eos_token_id == 0


@pytest.mark.parametrize("family", ["ling-v2", "mixtral"])
def test_transformers_loads_the_exported_tokenizer(trained, tmp_path, tokenizer, family):
    import transformers

    export_checkpoint(trained(family)[1], tmp_path / "hf")
    text = "def main(): # 42 \u20ac"

    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "hf")

    assert theirs(text)["input_ids"] == tokenizer.encode([text])[0].tolist()
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert (theirs.eos_token, theirs.eos_token_id) == ("<|endoftext|>", 0)
    assert theirs.model_max_length == 64


def test_auto_tokenizer_finds_the_tokenizer_of_a_known_family(trained, tmp_path, tokenizer):
    import transformers

    export_checkpoint(trained("qwen3-moe")[1], tmp_path / "hf")

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")

    assert theirs("def main")["input_ids"] == tokenizer.encode(["def main"])[0].tolist()


def test_the_newest_checkpoint_of_a_run_is_exported(trained, tmp_path):
    trained()

    export_checkpoint(tmp_path / "run", tmp_path / "hf")

    assert load_hf(tmp_path / "hf").spec.family == "ling-v2"


def test_bf16_can_be_asked_for(trained, tmp_path):
    export_checkpoint(trained()[1], tmp_path / "hf", dtype=torch.bfloat16)

    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    assert {tensor.dtype for name, tensor in tensors.items() if "bias" not in name} == {torch.bfloat16}
    assert json.loads((tmp_path / "hf" / "config.json").read_bytes())["torch_dtype"] == "bfloat16"


def test_the_config_names_the_special_tokens(trained, tmp_path):
    export_checkpoint(trained()[1], tmp_path / "hf")

    config = json.loads((tmp_path / "hf" / "config.json").read_bytes())
    assert [config[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [0, 0, 0]


def test_a_model_that_its_family_cannot_express_is_refused_and_nothing_is_written(trained, tmp_path):
    _, path = trained("mixtral", routed_scale=2.0)

    with pytest.raises(UsageError, match="cannot express routed_scale"):
        export_checkpoint(path, tmp_path / "hf")

    assert not (tmp_path / "hf").exists()


def test_a_damaged_checkpoint_is_refused(trained, tmp_path):
    _, path = trained()
    file = next(path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(DamagedFile, match=file.name):
        export_checkpoint(path, tmp_path / "hf")


def test_an_existing_folder_is_refused(trained, tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        export_checkpoint(trained()[1], tmp_path / "run")


def test_an_empty_folder_that_cannot_be_replaced_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=r"^\. cannot be replaced"):
        export_checkpoint(tmp_path / "no such checkpoint", Path())


def test_an_export_shows_the_check_the_reading_and_the_writing(trained, tmp_path, recorder):
    export_checkpoint(trained("mixtral")[1], tmp_path / "hf", progress=recorder)

    # Two layers of 8 experts. Ours: embedding, head, norm, and in each layer 2 norms, 2 of attention, router and
    # the experts in 2 stacks. Theirs: 4 of attention, and 3 for each expert.
    check, reading, writing = recorder.shown
    assert check[0] == "Checking step-00000100"
    assert reading == ["Reading step-00000100", 3 + 2 * 7, "tensors", 3 + 2 * 7]
    assert writing == ["Writing", 3 + 2 * (7 + 24), "tensors", 3 + 2 * (7 + 24)]
