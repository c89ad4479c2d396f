"""How many parameters a model has: every one by name and shape, summed by part, without torch.

`parameter_shapes` is the list that the built model must match name for name; the counts are its sums.
The expert bias of aux-free balancing is a buffer, not a parameter, and is counted nowhere.

Names in formulas: V vocabulary, H hidden, I dense width, M expert width, E experts, K chosen experts.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Literal

from everyflop.spec.model import ModelSpec

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Part = Literal["embedding", "head", "attention", "norms", "dense", "router", "routed", "shared", "mtp"]


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a model by part. The attention part includes its own norms and biases."""

    embedding: int
    head: int
    """0 when the embedding is tied to it."""
    attention: int
    norms: int
    """Two in each layer and the final one."""
    dense: int
    router: int
    routed: int
    """All routed experts."""
    routed_active: int
    """The routed experts that one token meets."""
    shared: int
    mtp: int
    """All of the multi-token-prediction layers, which share the embedding and the head."""

    @property
    def total(self) -> int:
        """The main model, without MTP layers, as published counts have it."""
        return self.active - self.routed_active + self.routed

    @property
    def active(self) -> int:
        """What one token meets in the main model, including embedding and head."""
        return self.embedding + self.head + self.active_non_embedding

    @property
    def active_non_embedding(self) -> int:
        """What one token meets between embedding and head."""
        return self.attention + self.norms + self.dense + self.router + self.routed_active + self.shared


def count_parameters(spec: ModelSpec) -> ParameterCount:
    """Count a model's parameters by part."""
    sizes: Counter[Part] = Counter()
    for name, shape in parameter_shapes(spec).items():
        sizes[part_of(name)] += prod(shape)
    return ParameterCount(
        embedding=sizes["embedding"],
        head=sizes["head"],
        attention=sizes["attention"],
        norms=sizes["norms"],
        dense=sizes["dense"],
        router=sizes["router"],
        routed=sizes["routed"],
        routed_active=sizes["routed"] // spec.n_experts * spec.experts_per_token,
        shared=sizes["shared"],
        mtp=sizes["mtp"],
    )


def part_of(name: str) -> Part:
    """Return the part that a parameter belongs to, by its name; everything of an MTP layer is "mtp"."""
    for prefix, part in _PREFIXES.items():
        if name.startswith(prefix):
            return part
    for piece, part in _PIECES.items():
        if piece in name:
            return part
    return "norms"


_PREFIXES: dict[str, Part] = {"mtp.": "mtp", "embed.": "embedding", "head.": "head"}

_PIECES: dict[str, Part] = {
    ".attn.": "attention",
    ".router.": "router",
    ".experts.": "routed",
    ".shared.": "shared",
    ".ffn.": "dense",
}
"""Looked for in this order: what is left of ".ffn." after the three before it is dense."""


def parameter_shapes(spec: ModelSpec) -> Shapes:
    """Return the name and shape of every parameter, MTP layers included."""
    V, H = spec.vocab_size, spec.hidden
    shapes: Shapes = {"embed.weight": (V, H)}
    for layer in range(spec.n_layers):
        shapes |= _below(f"layers.{layer}", _block(spec, dense=spec.is_dense(layer)))
    shapes["norm.weight"] = (H,)
    if not spec.tied_embeddings:
        shapes["head.weight"] = (V, H)
    for layer in range(spec.n_mtp_layers):
        shapes |= _below(f"mtp.{layer}", _mtp_layer(spec))
    return shapes


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _mtp_layer(spec: ModelSpec) -> Shapes:
    H = spec.hidden
    return {
        "embed_norm.weight": (H,),
        "hidden_norm.weight": (H,),
        "merge.weight": (H, 2 * H),
        **_below("block", _block(spec, dense=False)),
        "norm.weight": (H,),
    }


def _block(spec: ModelSpec, *, dense: bool) -> Shapes:
    attention = _mla(spec) if spec.attention == "mla" else _gqa(spec)
    ffn = _swiglu(spec.hidden, spec.dense_width) if dense else _moe(spec)
    return {
        "attn_norm.weight": (spec.hidden,),
        **_below("attn", attention),
        "ffn_norm.weight": (spec.hidden,),
        **_below("ffn", ffn),
    }


def _gqa(spec: ModelSpec) -> Shapes:
    nh, nkv, d = spec.n_heads, spec.n_kv_heads, spec.head_dim
    shapes = _linear("qkv", (nh + 2 * nkv) * d, spec.hidden, bias=spec.qkv_bias)
    if spec.qk_norm != "none":
        shapes["q_norm.weight"] = (d,) if spec.qk_norm == "head" else (nh * d,)
        shapes["k_norm.weight"] = (d,) if spec.qk_norm == "head" else (nkv * d,)
    return shapes | _linear("out", spec.hidden, nh * d, bias=spec.out_bias)


def _mla(spec: ModelSpec) -> Shapes:
    H, nh, q_rank, kv_rank = spec.hidden, spec.n_heads, spec.q_rank, spec.kv_rank
    if q_rank is None:
        shapes = _linear("q", nh * spec.qk_dim, H)
    else:
        shapes = _linear("q_down", q_rank, H, bias=spec.qkv_bias)
        shapes |= {"q_down_norm.weight": (q_rank,), "q_up.weight": (nh * spec.qk_dim, q_rank)}
    shapes |= _linear("kv_down", kv_rank + spec.rope_head_dim, H, bias=spec.qkv_bias)
    shapes["kv_down_norm.weight"] = (kv_rank,)
    shapes |= _linear("kv_up", nh * (spec.nope_head_dim + spec.v_head_dim), kv_rank)
    return shapes | _linear("out", H, nh * spec.v_head_dim, bias=spec.out_bias)


def _linear(name: str, n_out: int, n_in: int, *, bias: bool = False) -> Shapes:
    weight: Shapes = {f"{name}.weight": (n_out, n_in)}
    return weight | {f"{name}.bias": (n_out,)} if bias else weight


def _moe(spec: ModelSpec) -> Shapes:
    H, E, M = spec.hidden, spec.n_experts, spec.expert_width
    shapes: Shapes = {
        "router.weight": (E, H),
        "experts.gate_up": (E, 2 * M, H),
        "experts.down": (E, H, M),
    }
    return shapes | _below("shared", _swiglu(H, spec.shared_width)) if spec.n_shared_experts else shapes


def _swiglu(hidden: int, width: int) -> Shapes:
    return {"gate_up.weight": (2 * width, hidden), "down.weight": (hidden, width)}
