"""What a published family looks like on disk: the keys of its config.json and the names of its tensors, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from everyflop.model.families.reader import MISSING, REFUSED, ConfigReader
from everyflop.spec.families import Family
from everyflop.spec.model import ModelSpec

Fields = dict[str, Any]
"""Fields of ModelSpec by name; REFUSED where config.json has no usable value."""


class Required:
    """Marks a key that must be there, or must not be null."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of config.json and the field that it sets."""

    name: str
    field: str
    kind: type
    """int, float or bool: the JSON type."""
    default: Any = Required
    """What an absent key means: the default of the family's own config class."""
    null: Any = Required
    """What null means."""
    values: Mapping[Any, Any] | None = None
    """Field values for JSON values where they differ."""
    aliases: tuple[str, ...] = ()

    def read(self, reader: ConfigReader) -> Any:
        """Return the field's value, or REFUSED."""
        value = reader.raw(self.name, *self.aliases)
        if value is MISSING and self.default is Required:
            return reader.problem(self.name, "is missing")
        if value is None and self.null is not Required:
            return self.null
        value = self.default if value is MISSING else reader.typed(value, self.kind, self.name)
        return value if self.values is None or value is REFUSED else self.values[value]

    def write(self, owner: object) -> Any:
        """Return the JSON value for a ModelSpec (or YarnSpec) that has the field."""
        value = getattr(owner, self.field)
        if self.values is None:
            return value
        return next((json_value for json_value, one in self.values.items() if one == value), None)


@dataclass(frozen=True, slots=True)
class TensorNames:
    """How a family names tensors, where families differ. Parts of names come without dots at the ends."""

    embed: str = "model.embed_tokens"
    attention: str = "self_attn"
    packed_qkv: str | None = None
    """The one projection that holds queries, keys and values; None: q_proj, k_proj and v_proj."""
    out: str = "o_proj"
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    moe: str = "mlp"
    expert: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    """Gate, up and down projection of one expert."""
    expert_bias: str = "expert_bias"
    mtp_norm: str = "final_layernorm"
    mtp_copies: Mapping[str, str] = field(default_factory=dict)
    """Tensors of an MTP layer that repeat one of the main model's: name here, name there."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One family's files."""

    family: Family
    architecture: str
    """What config.json calls it; the only key that decides, since model_type is shared between families."""
    model_type: str
    keys: tuple[Key, ...]
    read_more: Callable[[ConfigReader, Fields], Fields]
    """Returns the fields that no single key gives, from the reader and the fields read so far."""
    write_more: Callable[[ModelSpec], dict[str, Any]]
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys of which we implement some values only."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Keys that never change and that other programs look for."""
    harmless: frozenset[str] = frozenset()
    """Keys that change nothing in what the family's own code computes."""
    names: TensorNames = TensorNames()
    mtp_by_tensors: bool = False
    """config.json does not tell whether an MTP layer is there; the tensors do."""

    def key_of(self, field_name: str) -> str:
        """Return the config.json key that sets a field, or the field's own name."""
        return next((key.name for key in self.keys if key.field == field_name), field_name)
