import pytest
import torch

from everyflop.checkpoint.write import write_checkpoint
from everyflop.data.tokenizer import train_tokenizer
from everyflop.model.build import build_model
from everyflop.spec.model import ModelSpec

SIZES = {
    "vocab_size": 300,
    "hidden": 16,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 8,
    "n_experts": 8,
    "experts_per_token": 2,
    "expert_width": 8,
    "max_positions": 64,
}
SHARED = {"n_shared_experts": 1, "dense_layers": (0,), "dense_width": 24, "n_groups": 4, "keep_groups": 2}


@pytest.fixture(scope="session")
def tokenizer():
    """A small tokenizer of our own."""
    return train_tokenizer(["def main():\n    return 12 + 30\n"] * 3, vocab_size=300)


@pytest.fixture
def trained(tmp_path, tokenizer):
    """Write a checkpoint as training does, of a family's small model, and return the model and the path."""

    def write(family="ling-v2", **changes):
        fields = {**SIZES, **(SHARED if family == "ling-v2" else {}), **changes, "family": family}
        spec = ModelSpec.model_validate(fields)
        model = build_model(spec, seed=1, device=torch.device("cpu"), compute_dtype=torch.float32)
        path = tmp_path / "run" / "checkpoints" / "step-00000100"
        path.parent.mkdir(parents=True)
        write_checkpoint(
            path,
            100,
            tensors={f"model.{name}": tensor for name, tensor in model.state_dict().items()}
            | {"exp_avg.norm.weight": torch.zeros(16), "router.logit_mean": torch.zeros(1)},
            state={"schema": 1},
            files={"model.json": spec.model_dump_json().encode(), "tokenizer.json": tokenizer.content},
        )
        return model, path

    return write
