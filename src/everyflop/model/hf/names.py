"""Which tensor of a Hugging Face checkpoint fills which block of which of our tensors.

Ours are fused (queries, keys and values; gate and up; all experts of a layer), theirs are single matrices. A Part links
one of theirs to its block of ours, in either direction, without a copy of either.

Shapes in names: H hidden, V vocabulary, I a feed-forward width, E experts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from everyflop.model.families import BY_FAMILY
from everyflop.model.families.layout import TensorNames
from everyflop.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a Hugging Face checkpoint: its name, and the block of ours that it is."""

    name: str
    ours: str
    expert: int | None = None
    """First index of ours, where ours stacks experts."""
    rows: tuple[int, int] | None = None
    """First row and the row after the last, in the (expert's) matrix or bias; None means all."""

    def of(self, tensor: Tensor) -> Tensor:
        """Return the block of ours, as a view."""
        block = tensor if self.expert is None else tensor[self.expert]
        return block if self.rows is None else block[self.rows[0] : self.rows[1]]


def parts(spec: ModelSpec) -> Iterator[Part]:
    """Yield every tensor of the spec's family layout, in the order of our model. Copies are in `copies`."""
    names = BY_FAMILY[spec.family].names
    yield Part(f"{names.embed}.weight", "embed.weight")
    for i in range(spec.n_layers):
        yield from _block(spec, names, i, f"layers.{i}")
    yield Part("model.norm.weight", "norm.weight")
    if not spec.tied_embeddings:
        yield Part("lm_head.weight", "head.weight")
    for j in range(spec.n_mtp_layers):
        theirs = f"model.layers.{spec.n_layers + j}"
        yield Part(f"{theirs}.enorm.weight", f"mtp.{j}.embed_norm.weight")
        yield Part(f"{theirs}.hnorm.weight", f"mtp.{j}.hidden_norm.weight")
        yield Part(f"{theirs}.eh_proj.weight", f"mtp.{j}.merge.weight")
        yield from _block(spec, names, spec.n_layers + j, f"mtp.{j}.block")
        yield Part(f"{theirs}.{names.mtp_norm}.weight", f"mtp.{j}.norm.weight")


def copies(spec: ModelSpec) -> dict[str, str]:
    """Return tensors that a checkpoint may hold although they repeat another: name, and the name of the other."""
    names = BY_FAMILY[spec.family].names
    head = f"{names.embed}.weight" if spec.tied_embeddings else "lm_head.weight"
    repeated = {"lm_head.weight": head} if spec.tied_embeddings else {}
    for j in range(spec.n_mtp_layers):
        for name, other in names.mtp_copies.items():
            repeated[f"model.layers.{spec.n_layers + j}.{name}"] = head if other == "lm_head.weight" else other
    return repeated


def written_copies(spec: ModelSpec) -> frozenset[str]:
    """Return the copies that published checkpoints of the family do hold: those of MTP layers."""
    return frozenset(name for name in copies(spec) if name != "lm_head.weight")


def _block(spec: ModelSpec, names: TensorNames, layer: int, ours: str) -> Iterator[Part]:
    theirs = f"model.layers.{layer}"
    yield Part(f"{theirs}.input_layernorm.weight", f"{ours}.attn_norm.weight")
    attention = _latent_attention if spec.attention == "mla" else _attention
    yield from attention(spec, names, f"{theirs}.{names.attention}", f"{ours}.attn")
    yield Part(f"{theirs}.post_attention_layernorm.weight", f"{ours}.ffn_norm.weight")
    if spec.is_dense(layer):
        yield from _swiglu(f"{theirs}.mlp", f"{ours}.ffn", spec.dense_width)
    else:
        yield from _moe(spec, names, f"{theirs}.{names.moe}", f"{ours}.ffn")


def _attention(spec: ModelSpec, names: TensorNames, theirs: str, ours: str) -> Iterator[Part]:
    n_q, n_kv = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    rows = {"q_proj": (0, n_q), "k_proj": (n_q, n_q + n_kv), "v_proj": (n_q + n_kv, n_q + 2 * n_kv)}
    for kind in ("weight", "bias") if spec.qkv_bias else ("weight",):
        if names.packed_qkv is not None:
            yield Part(f"{theirs}.{names.packed_qkv}.{kind}", f"{ours}.qkv.{kind}")
        else:
            yield from (Part(f"{theirs}.{one}.{kind}", f"{ours}.qkv.{kind}", rows=rows[one]) for one in rows)
    if spec.qk_norm != "none":
        yield Part(f"{theirs}.{names.q_norm}.weight", f"{ours}.q_norm.weight")
        yield Part(f"{theirs}.{names.k_norm}.weight", f"{ours}.k_norm.weight")
    yield from _linear(f"{theirs}.{names.out}", f"{ours}.out", bias=spec.out_bias)


def _latent_attention(spec: ModelSpec, names: TensorNames, theirs: str, ours: str) -> Iterator[Part]:
    if spec.q_rank is None:
        yield from _linear(f"{theirs}.q_proj", f"{ours}.q")
    else:
        yield from _linear(f"{theirs}.q_a_proj", f"{ours}.q_down", bias=spec.qkv_bias)
        yield from _linear(f"{theirs}.q_a_layernorm", f"{ours}.q_down_norm")
        yield from _linear(f"{theirs}.q_b_proj", f"{ours}.q_up")
    yield from _linear(f"{theirs}.kv_a_proj_with_mqa", f"{ours}.kv_down", bias=spec.qkv_bias)
    yield from _linear(f"{theirs}.kv_a_layernorm", f"{ours}.kv_down_norm")
    yield from _linear(f"{theirs}.kv_b_proj", f"{ours}.kv_up")
    yield from _linear(f"{theirs}.{names.out}", f"{ours}.out", bias=spec.out_bias)


def _moe(spec: ModelSpec, names: TensorNames, theirs: str, ours: str) -> Iterator[Part]:
    yield Part(f"{theirs}.gate.weight", f"{ours}.router.weight")
    if spec.expert_bias:
        yield Part(f"{theirs}.gate.{names.expert_bias}", f"{ours}.router.expert_bias")
    gate, up, down = names.expert
    width = spec.expert_width
    for e in range(spec.n_experts):
        expert = f"{theirs}.experts.{e}"
        yield Part(f"{expert}.{gate}.weight", f"{ours}.experts.gate_up", expert=e, rows=(0, width))
        yield Part(f"{expert}.{up}.weight", f"{ours}.experts.gate_up", expert=e, rows=(width, 2 * width))
        yield Part(f"{expert}.{down}.weight", f"{ours}.experts.down", expert=e)
    if spec.n_shared_experts:
        yield from _swiglu(f"{theirs}.shared_experts", f"{ours}.shared", spec.shared_width)


def _swiglu(theirs: str, ours: str, width: int) -> Iterator[Part]:
    yield Part(f"{theirs}.gate_proj.weight", f"{ours}.gate_up.weight", rows=(0, width))
    yield Part(f"{theirs}.up_proj.weight", f"{ours}.gate_up.weight", rows=(width, 2 * width))
    yield Part(f"{theirs}.down_proj.weight", f"{ours}.down.weight")


def _linear(theirs: str, ours: str, *, bias: bool = False) -> Iterator[Part]:
    yield Part(f"{theirs}.weight", f"{ours}.weight")
    if bias:
        yield Part(f"{theirs}.bias", f"{ours}.bias")
