"""What a conversion did, for the command to print."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from everyflop.spec.model import ModelSpec

HF_SOURCE_NAME = "hf_source.json"
"""In a checkpoint: the types that the imported tensors had, so that exporting gives back the same files."""

CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)
"""Small files that stay with a model in both directions."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in its new place."""

    spec: ModelSpec
    path: Path
    parameters: int
    tensors: int
    dtype: str
    """Of the embedding, as it was written."""

    @classmethod
    def of(cls, spec: ModelSpec, path: Path, tensors: Mapping[str, Tensor], dtype: str) -> Self:
        """Count tensors under our names; expert biases are no parameters."""
        parameters = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith("expert_bias"))
        return cls(spec, path, parameters, len(tensors), dtype)
