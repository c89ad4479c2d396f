"""A Hugging Face folder becomes a checkpoint, and unchanged goes back as it was."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.checkpoint.read import open_checkpoint
from everyflop.export.export_hf import export_checkpoint
from everyflop.export.import_hf import import_hf
from everyflop.infer.load import load_checkpoint
from everyflop.model.hf.load import load_hf


@pytest.fixture(params=["ling-v1", "ling-v2", "mixtral", "qwen3-moe"])
def folder(request, trained, tmp_path):
    """A bf16 folder with keys and files of its own, the router kept in fp32."""
    export_checkpoint(trained(request.param)[1], tmp_path / "hf", dtype=torch.bfloat16)
    file = tmp_path / "hf" / "model.safetensors"
    tensors = {name: t.float() if ".gate." in name else t for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((tmp_path / "hf" / "config.json").read_bytes())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | {"transformers_version": "4.1", "_own": 1}))
    (tmp_path / "hf" / "special_tokens_map.json").write_text('{"eos_token": "<|endoftext|>"}')
    return tmp_path / "hf"


def test_the_weights_are_fp32_to_train_on(folder, tmp_path):
    done = import_hf(folder, tmp_path / "ckpt")

    checkpoint = open_checkpoint(tmp_path / "ckpt")
    assert {info.dtype for info in checkpoint.tensors.values()} == {"float32"}
    assert (done.dtype, done.tensors) == ("float32", len(checkpoint.tensors))
    ids = torch.arange(7)[None]
    assert torch.equal(load_checkpoint(tmp_path / "ckpt")(ids), load_hf(folder, torch.float32)(ids))


def test_exported_again_it_is_what_it_was(folder, tmp_path):
    import_hf(folder, tmp_path / "ckpt")

    export_checkpoint(tmp_path / "ckpt", tmp_path / "again")

    one, two = load_file(folder / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one)
    assert json.loads((folder / "config.json").read_bytes()) == json.loads(
        (tmp_path / "again/config.json").read_bytes()
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_dtype_given_at_export_wins(folder, tmp_path):
    import_hf(folder, tmp_path / "ckpt")

    export_checkpoint(tmp_path / "ckpt", tmp_path / "again", dtype=torch.float32)

    assert {t.dtype for t in load_file(tmp_path / "again" / "model.safetensors").values()} == {torch.float32}


def test_damaged_tensor_files_leave_no_checkpoint(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(b"\0" * 100)

    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        import_hf(folder, tmp_path / "ckpt")

    assert not (tmp_path / "ckpt").exists()


def test_an_existing_place_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="exists already"):
        import_hf(folder, tmp_path / "run")


def test_an_import_never_stands_among_the_checkpoints_of_a_run(folder, tmp_path):
    with pytest.raises(UsageError, match="checkpoints is for the checkpoints that a run saves"):
        import_hf(folder, tmp_path / "checkpoints" / "step-00000003")


def test_an_import_shows_the_reading_the_writing_and_the_checksums(folder, tmp_path, recorder):
    done = import_hf(folder, tmp_path / "ckpt", progress=recorder)

    reading, writing, checksums = recorder.shown
    n_stored = len(load_file(folder / "model.safetensors"))
    assert reading == ["Reading hf", n_stored, "tensors", n_stored]
    assert writing == ["Writing", done.tensors, "tensors", done.tensors]
    assert checksums[0] == "Computing checksums"
    assert checksums[1] == checksums[3]
