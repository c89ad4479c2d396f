"""config.json to ModelSpec and back, in the layout that each family publishes.

Reading lists every problem at once and never guesses; writing reads its own result back, so that a spec which a
family's layout cannot express is refused instead of changed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.model.families import BY_ARCHITECTURE, BY_FAMILY, Layout
from everyflop.model.families.common import FIXED, HARMLESS, HINTS, NO_TOKENS, fill_in
from everyflop.model.families.layout import Fields
from everyflop.model.families.reader import REFUSED, ConfigReader
from everyflop.model.hf.folder import has_mtp_tensors
from everyflop.spec.base import KEEP_MISFITS
from everyflop.spec.model import ModelSpec

CONFIG_NAME = "config.json"

IMPORTED_CONFIG_NAME = "hf_config.json"
"""In a checkpoint: the config.json of the folder that the model was imported from."""


def read_config(folder: Path) -> tuple[ModelSpec, dict[str, Any]]:
    """Read the config.json of a Hugging Face model folder. Returns the spec and the raw keys.

    Raises UsageError where there is no such file, InvalidFile where it is no JSON table, names an architecture we do
    not know, or has a key or value that we do not implement.
    """
    file = folder / CONFIG_NAME
    config = _read_table(file)
    layout = _layout_of(config, file)
    has_mtp = layout.mtp_by_tensors and has_mtp_tensors(folder, config.get("num_hidden_layers"))
    return parse_config(config, file, has_mtp=has_mtp), config


def parse_config(config: Mapping[str, Any], file: object = CONFIG_NAME, *, has_mtp: bool = False) -> ModelSpec:
    """Return the spec that a config.json describes; `file` is named in errors.

    has_mtp says whether an MTP layer's tensors exist, for families whose config.json leaves that open.
    Raises InvalidFile with every problem.
    """
    layout = _layout_of(config, file)
    reader = ConfigReader(config, has_mtp=has_mtp)
    fields: Fields = {"family": layout.family, **{key.field: key.read(reader) for key in layout.keys}}
    fill_in(reader, fields)
    fields |= layout.read_more(reader, fields)
    for key, accepted in {**FIXED, **layout.fixed}.items():
        reader.expect(key, accepted, HINTS.get(key, ""))
    reader.refuse_the_rest(HARMLESS | layout.harmless)
    spec = None if REFUSED in fields.values() else _spec(fields, layout, reader.problems)
    if spec is None or reader.problems:
        raise InvalidFile(file, reader.problems)
    return spec


def write_config(spec: ModelSpec, base: Mapping[str, Any] | None = None, *, dtype: str | None = None) -> dict[str, Any]:
    """Return a config.json for the spec, in its family's layout.

    base is the config.json that the model came from: kept key by key if it still describes the model, else its keys
    that are not about the model (token ids and the like) are carried along. dtype is the tensors' type ("bfloat16").
    Raises UsageError naming the fields that the family's layout cannot express.
    """
    base = base or {}
    if "architectures" in base and _says(base, spec):
        config = dict(base)
    else:
        config = _fresh(spec, base)
        if lost := _differences(spec, parse_config(config, has_mtp=spec.n_mtp_layers > 0)):
            raise UsageError(
                f"a config.json of the {spec.family} family cannot express {', '.join(lost)}. "
                "Train with the family's own values, or choose the family that has this."
            )
    if dtype is not None:
        names = [name for name in ("torch_dtype", "dtype") if name in config] or ["torch_dtype"]
        config.update(dict.fromkeys(names, dtype))
    return config


def _read_table(file: Path) -> dict[str, Any]:
    folder = file.parent
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}; a folder with {CONFIG_NAME} and safetensors files is needed.")
    try:
        config = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {CONFIG_NAME}, so it is no Hugging Face model folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidFile(file, [Problem("JSON", f"cannot be read: {error}", "copy the file again")]) from None
    if not isinstance(config, dict):
        raise InvalidFile(file, [Problem("JSON", f"is a {type(config).__name__}, and a table is needed")])
    return config


def _layout_of(config: Mapping[str, Any], file: object) -> Layout:
    names = config.get("architectures")
    known = ", ".join(BY_ARCHITECTURE)
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        found = "is missing" if names is None else f"is {names!r}"
        raise InvalidFile(file, [Problem("architectures", f"{found}, and a list of one is needed", f"known: {known}")])
    if names[0] not in BY_ARCHITECTURE:
        raise InvalidFile(file, [Problem("architectures", f"'{names[0]}' is not implemented", f"known: {known}")])
    return BY_ARCHITECTURE[names[0]]


def _spec(fields: Fields, layout: Layout, problems: list[Problem]) -> ModelSpec | None:
    """Return the spec; where ModelSpec refuses values, note the config.json keys behind them."""
    try:
        spec = ModelSpec.model_validate(fields, context=KEEP_MISFITS)
    except ValidationError as error:
        for detail in error.errors():
            first, *rest = map(str, detail["loc"])
            problems.append(Problem(".".join([layout.key_of(first), *rest]), f"{detail['msg']}: {detail['input']!r}"))
        return None
    problems += [Problem(layout.key_of(name), found) for name, found in spec.misfits()]
    return spec


def _fresh(spec: ModelSpec, base: Mapping[str, Any]) -> dict[str, Any]:
    layout = BY_FAMILY[spec.family]
    return {
        "architectures": [layout.architecture],
        "model_type": layout.model_type,
        **NO_TOKENS,
        **layout.constants,
        **{key: value for key, value in base.items() if key in HARMLESS - {"architectures", "model_type"}},
        **{key.name: key.write(spec) for key in layout.keys},
        **layout.write_more(spec),
    }


def _says(config: Mapping[str, Any], spec: ModelSpec) -> bool:
    """Whether a config.json describes exactly this model."""
    try:
        found = parse_config(config, has_mtp=spec.n_mtp_layers > 0)
    except InvalidFile:
        return False
    return not _differences(spec, found)


def _differences(spec: ModelSpec, other: ModelSpec) -> list[str]:
    """Return the fields in which two specs describe different models."""
    one, two = _meaning(spec), _meaning(other)
    return [name for name in one if one[name] != two[name]]


def _meaning(spec: ModelSpec) -> dict[str, Any]:
    """Return a spec's fields, with those that the others leave without effect set to one value."""
    fields = spec.model_dump(exclude={"embed_std", "output_std"})  # only a run that starts from nothing asks
    fields["rotary_dim"] = spec.rope_dim
    fields["dense_layers"] = tuple(sorted(set(spec.dense_layers)))
    if not spec.dense_layers:
        fields["dense_width"] = 0
    if not spec.n_mtp_layers:
        fields["mtp_loss_weight"] = 0.0
    if spec.attention == "mla":
        fields["head_dim"] = spec.rope_head_dim
    return fields
