"""Rotary embedding in config.json: `rope_theta` with `rope_scaling`, or `rope_parameters` that holds both.

Either style may be read. The first is written: older and newer programs all understand it.
"""

import math
from typing import Any

from everyflop.model.families.layout import Fields, Key
from everyflop.model.families.reader import MISSING, REFUSED, ConfigReader
from everyflop.spec.model import ModelSpec

_YARN = (
    Key("factor", "factor", float, null=None),
    Key("original_max_position_embeddings", "original_max_positions", int, default=None, null=None),
    Key("beta_fast", "beta_fast", float, 32.0, null=32.0),
    Key("beta_slow", "beta_slow", float, 1.0, null=1.0),
    Key("attention_factor", "attention_factor", float, None, null=None),
    Key("mscale", "mscale", float, None, null=None),
    Key("mscale_all_dim", "mscale_all_dim", float, None, null=None),
    Key("truncate", "truncate", bool, True, null=True),
)
_POSITIVE = ("original_max_positions", "beta_fast", "beta_slow")


def read_rope(
    reader: ConfigReader, fields: Fields, *, theta: float, partial: bool = False, original: int | None = None
) -> Fields:
    """Return rope_theta, yarn and, for a family that can rotate a part of each head, rotary_dim.

    theta is the family's default; original is the length YaRN starts from where the file gives none, by default
    max_position_embeddings.
    """
    inner = _inner(reader)
    kind = inner.raw("rope_type", "type")
    found: Fields = {"rope_theta": _same(reader, inner, "rope_theta", theta), "yarn": None}
    found |= _read_part(reader, inner, fields) if partial else {}
    for table in (reader, inner):
        table.expect("partial_rotary_factor", (1.0, None)) if not partial else None
    if kind == "yarn":
        found["yarn"] = _read_yarn(inner, original or fields["max_positions"], fields["max_positions"])
    elif kind not in (MISSING, None, "default", REFUSED):
        inner.problem("rope_type", f"is {kind!r}, which everyflop does not implement", "it must be 'default' or 'yarn'")
    if kind in (MISSING, None, "default", "yarn"):
        inner.refuse_the_rest()
    reader.problems += inner.problems
    return found


def _inner(reader: ConfigReader) -> ConfigReader:
    """Return a reader of the table under rope_scaling or rope_parameters; an empty one if there is none."""
    given = {name: reader.raw(name) for name in ("rope_parameters", "rope_scaling")}
    given = {name: value for name, value in given.items() if value not in (MISSING, None)}
    if len(given) == 2 and len({str(value) for value in given.values()}) == 2:
        reader.problem("rope_scaling", "differs from rope_parameters, which says the same thing", "keep one")
    name, value = next(iter(given.items()), ("rope_scaling", {}))
    if not isinstance(value, dict):
        reader.problem(name, f"is {value!r}, and a table is needed")
    return ConfigReader(value if isinstance(value, dict) else {}, prefix=f"{name}.")


def _same(reader: ConfigReader, inner: ConfigReader, key: str, default: float | None) -> Any:
    """Read a number that may stand in the rope table or beside it; where it stands in both, they must agree."""
    values = [value for value in (inner.raw(key), reader.raw(key)) if value not in (MISSING, None)]
    if not values:
        return default
    if values[0] != values[-1]:
        return reader.problem(key, f"is {values[-1]!r}, and {inner.prefix}{key} is {values[0]!r}", "keep one")
    return reader.typed(values[0], float, key)


def _read_part(reader: ConfigReader, inner: ConfigReader, fields: Fields) -> Fields:
    """Return rotary_dim from rotary_dim or partial_rotary_factor; None where whole heads turn."""
    head_dim, factor, rotated = fields["head_dim"], _same(reader, inner, "partial_rotary_factor", None), None
    if (given := reader.raw("rotary_dim")) not in (MISSING, None):
        rotated = reader.typed(given, int, "rotary_dim")
    if REFUSED in (head_dim, factor, rotated):
        return {"rotary_dim": REFUSED}
    by_factor = None if factor is None else int(head_dim * factor)
    if rotated is not None and by_factor not in (None, rotated):
        reader.problem("rotary_dim", f"is {rotated}, and partial_rotary_factor makes it {by_factor}", "keep one")
    rotary_dim = rotated if rotated is not None else by_factor
    return {"rotary_dim": None if rotary_dim == head_dim else rotary_dim}


def _read_yarn(inner: ConfigReader, original: Any, max_positions: Any) -> Any:
    yarn = {key.field: key.read(inner) for key in _YARN}
    if yarn["original_max_positions"] is None:
        yarn["original_max_positions"] = original
    if REFUSED in (*yarn.values(), max_positions):
        return REFUSED
    if bad := [key for key in _YARN if key.field in _POSITIVE and yarn[key.field] <= 0]:
        for key in bad:
            inner.problem(key.name, f"is {yarn[key.field]}, and a number above 0 is needed")
        return REFUSED
    if yarn["factor"] is None:  # as in transformers: null means the ratio of the two lengths
        yarn["factor"] = max_positions / yarn["original_max_positions"]
    return yarn


def write_rope(spec: ModelSpec) -> dict[str, Any]:
    """Return rope_theta and rope_scaling."""
    if spec.yarn is None:
        return {"rope_theta": spec.rope_theta, "rope_scaling": None}
    values = {key.name: key.write(spec.yarn) for key in _YARN if key.write(spec.yarn) != key.default}
    # Older programs look for "type", newer ones for "rope_type".
    return {"rope_theta": spec.rope_theta, "rope_scaling": {"type": "yarn", "rope_type": "yarn", **values}}


def write_part(spec: ModelSpec) -> dict[str, Any]:
    """Return partial_rotary_factor so that int(head_dim * factor) gives back the channels: division can fall short."""
    factor = spec.rope_dim / spec.head_dim
    exact = int(spec.head_dim * factor) == spec.rope_dim
    return {"partial_rotary_factor": factor if exact else math.nextafter(factor, 2.0)}
