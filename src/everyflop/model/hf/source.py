"""What a loaded model remembers of the files it came from, so that saving gives the same files back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from everyflop.model.hf.folder import DTYPES, Stored

_ATTRIBUTE = "hf_source"
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Source:
    """The config.json of a checkpoint, the types of its tensors, and which redundant copies it held."""

    config: dict[str, Any]
    dtype: torch.dtype
    """Of most tensors."""
    other_dtypes: Mapping[str, torch.dtype]
    """Of the rest, by their Hugging Face names."""
    copies: frozenset[str]
    """Tensors that repeated another."""

    @classmethod
    def of(cls, config: dict[str, Any], tensors: Mapping[str, Stored], copies: frozenset[str]) -> Self:
        """Note what the headers of the tensor files say."""
        dtype = DTYPES[Counter(stored.dtype for stored in tensors.values()).most_common(1)[0][0]]
        others = {name: DTYPES[one.dtype] for name, one in tensors.items() if DTYPES[one.dtype] != dtype}
        return cls(config, dtype, others, copies)

    def dtype_of(self, name: str) -> torch.dtype:
        """Return the type that a tensor had."""
        return self.other_dtypes.get(name, self.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return all but the config as a JSON table."""
        others = {name: _NAMES[dtype] for name, dtype in self.other_dtypes.items()}
        return {"schema": 1, "dtype": _NAMES[self.dtype], "other_dtypes": others, "copies": sorted(self.copies)}

    @classmethod
    def from_json(cls, config: dict[str, Any], table: Mapping[str, Any]) -> Self:
        """Read what to_json wrote."""
        others = {name: DTYPES[dtype] for name, dtype in table["other_dtypes"].items()}
        return cls(config, DTYPES[table["dtype"]], others, frozenset(table["copies"]))


def remember(model: nn.Module, source: Source) -> None:
    """Attach the source to a model, and its raw config as `model.hf_config`."""
    vars(model).update({_ATTRIBUTE: source, "hf_config": source.config})


def source_of(model: nn.Module) -> Source | None:
    """Return the source of a loaded model; None for one that was built."""
    return vars(model).get(_ATTRIBUTE)
