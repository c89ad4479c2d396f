"""The tensor files of a Hugging Face model folder: model.safetensors, or shards with an index.

Lists what the files hold, from their headers alone, and refuses files that contradict themselves or each other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from everyflop.base.errors import DamagedFile

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""safetensors' names of the types that weights may have."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file, as the file's header describes it."""

    file: Path
    dtype: str
    """safetensors' name."""
    shape: tuple[int, ...]


def list_tensors(folder: Path) -> dict[str, Stored]:
    """Return all tensors of a model folder by name. Raises DamagedFile with everything found wrong."""
    placed, problems = _placed(folder)
    tensors: dict[str, Stored] = {}
    for name in sorted(set(placed.values())) if placed is not None else [SINGLE_NAME]:
        try:
            found = read_header(folder / name)
        except DamagedFile as error:
            problems.append(str(error))
            continue
        for tensor, stored in found.items():
            if tensor in tensors:
                problems.append(f"tensor {tensor} is in both {tensors[tensor].file.name} and {name}")
            elif placed is not None and tensor not in placed:
                problems.append(f"tensor {tensor} is in {name} and not in {INDEX_NAME}")
            tensors[tensor] = stored
        promised = [tensor for tensor, file in (placed or {}).items() if file == name and tensor not in found]
        problems += [f"tensor {tensor} is not in {name}, where {INDEX_NAME} places it" for tensor in promised]
    refuse(folder, problems)
    return tensors


def read_header(file: Path) -> dict[str, Stored]:
    """Return the tensors of one safetensors file. Raises DamagedFile."""
    try:
        if not file.is_file():
            raise DamagedFile(f"{file} does not exist")
        with safe_open(file, "pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (it is no dict)
            return {name: Stored(file, one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise DamagedFile(f"{file} is truncated or no safetensors file: {error}") from None


def has_mtp_tensors(folder: Path, n_layers: Any) -> bool:
    """Whether the folder's tensor files hold a layer after the last main one. A folder without any has none."""
    if not any((folder / name).is_file() for name in (SINGLE_NAME, INDEX_NAME)):
        return False
    return any(name.startswith(f"model.layers.{n_layers}.") for name in list_tensors(folder))


def refuse(where: object, problems: list[str]) -> None:
    """Raise DamagedFile listing the problems, if there are any."""
    if not problems:
        return
    shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
    raise DamagedFile(
        "\n".join(
            [f"{where}: the tensor files cannot be used. Copy or convert them again.", *(f"  - {p}" for p in shown)]
        )
    )


def _placed(folder: Path) -> tuple[dict[str, str] | None, list[str]]:
    """Return each tensor's file name by the index, or None for a single file, and problems of the index itself."""
    index = folder / INDEX_NAME
    if not index.exists():
        if (folder / SINGLE_NAME).exists():
            return None, []
        others = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" ({', '.join(others)} would have to be converted to safetensors first)" if others else ""
        raise DamagedFile(f"{folder} has neither {SINGLE_NAME} nor {INDEX_NAME}{hint}")
    try:
        table = json.loads(index.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{index} cannot be read: {error}") from None
    placed = table.get("weight_map") if isinstance(table, Mapping) else None
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise DamagedFile(f"{index} has no weight_map from tensor names to file names")
    strange = sorted({name for name in placed.values() if Path(name).name != name or name in ("", "..")})
    if strange:
        raise DamagedFile(f"{index} names files outside the folder: {', '.join(map(repr, strange))}")
    if (folder / SINGLE_NAME).exists() and SINGLE_NAME not in placed.values():
        return placed, [f"both {SINGLE_NAME} and {INDEX_NAME} with other files are there: remove one"]
    return placed, []
