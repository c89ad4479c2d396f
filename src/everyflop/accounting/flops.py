"""How many floating-point operations the model needs for one token: model FLOPs, the numerator of MFU.

A multiply-add is 2 FLOPs. Only matrix products count: norms, activations and the embedding look-up are nothing beside
them. Causal attention counts half of the full square, logits count, recomputation does not. MLA counts as it is
trained, with keys and values expanded to all heads.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod

from everyflop.accounting.parameters import Part, parameter_shapes, part_of
from everyflop.spec.model import ModelSpec

BACKWARD_PER_FORWARD = 2
"""The backward pass has two products, for inputs and for weights, where the forward pass has one."""


@dataclass(frozen=True, slots=True)
class FlopsPerToken:
    """Forward FLOPs of one token by part, averaged over the positions of a sequence."""

    attention_projections: float
    attention_scores: float
    """Queries with keys, and weights with values."""
    dense: float
    routed: float
    shared: float
    router: float
    head: float
    mtp: float
    """All of the MTP layers, each with its own pass through the head; 0 for a model without them."""

    @property
    def forward(self) -> float:
        """One forward pass, MTP included."""
        attention = self.attention_projections + self.attention_scores
        return attention + self.dense + self.routed + self.shared + self.router + self.head + self.mtp

    @property
    def training(self) -> float:
        """Forward and backward pass."""
        return self.forward * (1 + BACKWARD_PER_FORWARD)


def flops_per_token(spec: ModelSpec, seq_len: int) -> FlopsPerToken:
    """Return the forward FLOPs of one token in sequences of seq_len tokens."""
    weights = _weights_met(spec)
    head = 2 * spec.vocab_size * spec.hidden
    scores = _score_flops(spec, seq_len)
    return FlopsPerToken(
        attention_projections=2 * weights["attention"],
        attention_scores=spec.n_layers * scores,
        dense=2 * weights["dense"],
        routed=2 * weights["routed"],
        shared=2 * weights["shared"],
        router=2 * weights["router"],
        head=head,
        mtp=2 * weights["mtp"] + spec.n_mtp_layers * (scores + head),
    )


def trained_flops_per_token(spec: ModelSpec, seq_len: int) -> float:
    """Return the FLOPs of one token in training, forward and backward. MTP layers without a loss are not computed."""
    trained = spec if spec.mtp_loss_weight else spec.model_copy(update={"n_mtp_layers": 0})
    return flops_per_token(trained, seq_len).training


def _weights_met(spec: ModelSpec) -> Counter[Part]:
    """Count the matrix entries that one token is multiplied with; vectors (norms, biases) are left out."""
    met: Counter[Part] = Counter()
    for name, shape in parameter_shapes(spec).items():
        if len(shape) > 1:
            share = spec.experts_per_token if ".experts." in name else 1
            whole = spec.n_experts if ".experts." in name else 1
            met[part_of(name)] += prod(shape) // whole * share
    return met


def _score_flops(spec: ModelSpec, seq_len: int) -> float:
    """Return one layer's score FLOPs of a token. It sees seq_len / 2 keys on average, fewer with a window."""
    window = min(spec.sliding_window or seq_len, seq_len)
    keys = window - window**2 / (2 * seq_len)
    return 2 * spec.n_heads * (spec.qk_dim + spec.value_dim) * keys
