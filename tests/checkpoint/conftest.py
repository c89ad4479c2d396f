from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from everyflop.checkpoint import save


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Every dtype and shape that a training run stores, with values that a careless copy would change."""
    generator = torch.Generator().manual_seed(0)
    return {
        "model.embed.weight": torch.randn(7, 5, generator=generator),
        "model.odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "model.bf16": torch.randn(3, 3, generator=generator).bfloat16(),
        "model.count": torch.tensor([2**53 + 1, -1]),
        "model.empty": torch.empty(0, 4),
        "exp_avg.embed.weight": torch.randn(7, 5, generator=generator),
        "router.flag": torch.tensor([True, False]),
        "router.scale": torch.tensor(3.5),
    }


@pytest.fixture
def saved(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    """One good checkpoint, step 100."""
    state: dict[str, Any] = {"tokens": 4096, "loss": 0.1 + 0.2, "ledger": [3, 5]}
    return save(tmp_path / "checkpoints", 100, tensors=tensors, state=state, files={"model.json": b"{}"}, keep=3)
