"""The shape of a Mixture-of-Experts transformer: one spec for all families.

Every behaviour is a field, so that model, accounting and conversion read the same nouns. `family` names the published
layout that the model is exported in and fills the fields that the family fixes (see families.py).
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from everyflop.spec.base import Misfit, Spec
from everyflop.spec.families import FAMILY_DEFAULTS, Family

SHAPELESS = {"init_std", "embed_std", "output_std", "mtp_loss_weight", "max_positions"}
"""Keys of a model that neither its tensors nor its speed depend on."""


class YarnSpec(Spec):
    """YaRN rope scaling (arXiv 2309.00071), with the names of config.json."""

    factor: float = Field(ge=1)
    original_max_positions: int = Field(gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    attention_factor: float | None = None
    """Multiplies cos and sin; by default 0.1 ln(factor) + 1, or from mscale and mscale_all_dim."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True


class ModelSpec(Spec):
    """A decoder-only MoE transformer. Widths in channels, counts in units of what they count."""

    family: Family
    vocab_size: int = Field(gt=0)
    hidden: int = Field(gt=0)
    n_layers: int = Field(gt=0)
    """Main layers; MTP layers come on top."""
    dense_layers: tuple[int, ...] = ()
    """Indices of the layers whose feed-forward part is one dense SwiGLU instead of experts."""
    dense_width: int = Field(default=0, ge=0)

    attention: Literal["gqa", "mla"] = "gqa"
    n_heads: int = Field(gt=0)
    n_kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    """Channels of a head; heads times head_dim need not equal hidden. With MLA: ignored, see the four fields below."""
    qk_norm: Literal["none", "head", "full"] = "none"
    """RMSNorm on queries and keys before RoPE: per head with one shared weight, or over all heads at once."""
    qkv_bias: bool = False
    out_bias: bool = False
    clip_qkv: float | None = Field(default=None, gt=0)
    sliding_window: int | None = Field(default=None, gt=0)
    """A token sees itself and this many tokens less one before it; None means all."""

    q_rank: int | None = Field(default=None, gt=0)
    """MLA: rank of the query projection; None means one full matrix."""
    kv_rank: int = Field(default=0, ge=0)
    nope_head_dim: int = Field(default=0, ge=0)
    rope_head_dim: int = Field(default=0, ge=0)
    v_head_dim: int = Field(default=0, ge=0)

    rope_theta: float = Field(default=10_000.0, gt=0)
    rotary_dim: int | None = Field(default=None, gt=0)
    """Channels at the front of each head that are rotated; None means all."""
    rope_interleaved: bool = False
    """Rotate neighbouring pairs (2i, 2i+1) instead of halves (i, i+r/2)."""
    yarn: YarnSpec | None = None

    n_experts: int = Field(gt=0)
    experts_per_token: int = Field(gt=0)
    expert_width: int = Field(gt=0)
    n_shared_experts: int = Field(default=0, ge=0)
    """Always-on experts, fused into one SwiGLU of this many expert widths."""
    score: Literal["softmax", "sigmoid"] = "softmax"
    normalise_weights: bool = True
    n_groups: int = Field(default=1, gt=0)
    keep_groups: int = Field(default=1, gt=0)
    routed_scale: float = Field(default=1.0, gt=0)
    expert_bias: bool = False
    """A per-expert bias that steers the choice of experts and never enters their weights."""

    norm_head: bool = False
    """Normalise the output matrix per hidden channel over the vocabulary (NormHead, Ling V1)."""
    tied_embeddings: bool = False
    n_mtp_layers: int = Field(default=0, ge=0, le=1)
    mtp_loss_weight: float = Field(default=0.0, ge=0)
    norm_eps: float = Field(default=1e-6, gt=0)
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of starting weights: of all matrices but the router's, unless the next two say otherwise."""
    embed_std: float | None = Field(default=None, gt=0)
    """That of the embedding. A short run needs tokens to stand out from what the first layers add to them."""
    output_std: float | None = Field(default=None, gt=0)
    """That of the matrices that write to the residual stream: attention output and down projections."""
    max_positions: int = Field(default=32_768, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _family_fills_in(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and isinstance(family := fields.get("family"), str):
            # A single weight scaled to 1 would cut the router's gradient, and Ling's own code leaves it alone.
            single = family.startswith("ling") and fields.get("experts_per_token") == 1
            return {**FAMILY_DEFAULTS.get(family, {}), **({"normalise_weights": False} if single else {}), **fields}
        return fields

    def misfits(self) -> list[Misfit]:
        """Return the sizes that do not fit each other."""
        found: list[Misfit] = []
        if self.n_heads % self.n_kv_heads:
            found.append(("n_heads", f"{self.n_heads} is not divisible by n_kv_heads = {self.n_kv_heads}"))
        if self.experts_per_token > self.n_experts:
            found.append(("experts_per_token", f"{self.experts_per_token} exceeds n_experts = {self.n_experts}"))
        found += self._group_misfits()
        if bad := [i for i in self.dense_layers if not 0 <= i < self.n_layers]:
            found.append(("dense_layers", f"names {bad}, and layers go from 0 to {self.n_layers - 1}"))
        if self.dense_layers and not self.dense_width:
            found.append(("dense_width", "is needed: the width of the feed-forward part of dense_layers"))
        if self.attention == "mla":
            sizes = ("kv_rank", "nope_head_dim", "rope_head_dim", "v_head_dim")
            found += [(name, "is needed by attention = 'mla'") for name in sizes if not getattr(self, name)]
            if self.n_kv_heads != self.n_heads:
                found.append(
                    ("n_kv_heads", f"is n_heads = {self.n_heads} with attention = 'mla', which shares no heads")
                )
        if self.rope_dim % 2:
            found.append(("rotary_dim", f"rope turns channels in pairs, and {self.rope_dim} channels are odd"))
        elif self.attention == "gqa" and self.rope_dim > self.head_dim:
            found.append(("rotary_dim", f"{self.rotary_dim} exceeds head_dim = {self.head_dim}"))
        if self.yarn is not None and self.rope_theta <= 1:
            found.append(("rope_theta", f"{self.rope_theta} must exceed 1: yarn sorts channels by how fast they turn"))
        if self.tied_embeddings and self.norm_head:
            found.append(("norm_head", "cannot go with tied_embeddings: it would rescale the embedding too"))
        return found

    def _group_misfits(self) -> list[Misfit]:
        if self.n_experts % self.n_groups:
            return [("n_groups", f"{self.n_groups} does not divide n_experts = {self.n_experts}")]
        group_size = self.n_experts // self.n_groups
        if self.keep_groups > self.n_groups:
            return [("keep_groups", f"{self.keep_groups} exceeds n_groups = {self.n_groups}")]
        if self.n_groups > 1 and group_size < 2:
            return [
                ("n_groups", f"{self.n_groups} leaves {group_size} expert a group; groups are scored by their best 2")
            ]
        if self.keep_groups * group_size < self.experts_per_token <= self.n_experts:
            return [
                ("keep_groups", f"{self.keep_groups} leaves fewer than experts_per_token = {self.experts_per_token}")
            ]
        return []

    @property
    def rope_dim(self) -> int:
        """Channels that RoPE rotates in each head."""
        return self.rope_head_dim if self.attention == "mla" else self.rotary_dim or self.head_dim

    @property
    def qk_dim(self) -> int:
        """Channels of a query or key head as the attention scores see them."""
        return self.nope_head_dim + self.rope_head_dim if self.attention == "mla" else self.head_dim

    @property
    def value_dim(self) -> int:
        """Channels of a value head."""
        return self.v_head_dim if self.attention == "mla" else self.head_dim

    @property
    def shared_width(self) -> int:
        """Width of the fused shared expert; 0 means none."""
        return self.n_shared_experts * self.expert_width

    def is_dense(self, layer: int) -> bool:
        """Whether this layer has a dense feed-forward part. MTP layers (index n_layers and up) never have."""
        return layer in self.dense_layers
