"""The model of a published measurement, from the sizes that tables print.

Tables leave out what their readers know: the size of a head, whether the MLP is gated, which layers are dense, whether
the embedding is tied. What reproduces the printed parameter counts best is taken; the first of equals is the commonest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import inf, log

from everyflop.accounting.dims import Dims
from everyflop.base.units import GIGA
from everyflop.planner.rows.sizes import FFN_OVER_HIDDEN, Cells, filled_sizes

Q_RANK, KV_RANK, NOPE_DIM, ROPE_DIM, MLA_V_DIM = 1536, 512, 128, 64, 128
"""Multi-head latent attention as DeepSeek V2 and V3 have it; no other size is published in such tables."""
HEAD_DIMS = (128, 64, 96, 80, 256)

COUNTS = ("total_params_b", "active_params_b")
WRONG_COUNT = 0.05
"""A count that no guess reproduces this well is of something else, such as the model that this one was made from;
then the total decides alone."""
TOO_SMALL_TO_TELL = 3e-3
"""A share of the parameters: norms, biases and what a source counts differently."""


@dataclass(frozen=True, slots=True)
class RowModel:
    """Sizes of a model, and which of them were inferred."""

    dims: Dims
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guess:
    """What a table does not say of a model."""

    mla: bool
    head_dim: int
    """Channels; with MLA it has no effect."""
    matrices: int
    """Of an MLP or expert."""
    dense_layers: int
    tied: bool
    positions: int
    """Learned ones."""

    def __str__(self) -> str:
        attention = "MLA" if self.mla else f"head {self.head_dim}"
        mlp = "gated MLP" if self.matrices == 3 else "plain MLP"
        return f"{attention}, {mlp}, {self.dense_layers} dense layers{', tied embedding' if self.tied else ''}"


def row_model(cells: Cells, *, moe: bool = False, mla: bool = False, learned_positions: int = 0) -> RowModel:
    """Return the model of a line.

    moe: whether the line says that it has experts; mla: whether its name says that it has multi-head latent attention;
    learned_positions: how many there are if the model learns them.
    """
    shape_is_known = bool(cells["layers"] and cells["hidden"])
    cells, notes = filled_sizes(cells, moe=moe)
    guesses = list(_guesses(cells, mla=mla, learned_positions=learned_positions))
    guess = _best(cells, guesses, COUNTS)
    if _error(_dims(cells, guess), cells, COUNTS) > WRONG_COUNT and shape_is_known:
        guess = _best(cells, guesses, COUNTS[:1])
    notes.append(f"model: {guess}")
    if (error := _error(_dims(cells, guess), cells, COUNTS)) > WRONG_COUNT:
        notes.append(f"its parameters differ from the printed counts by {error:.0%}")
    return RowModel(_dims(cells, guess), tuple(notes))


def _guesses(cells: Cells, *, mla: bool, learned_positions: int) -> Iterator[Guess]:
    hidden, heads, layers = (int(cells[name] or 1) for name in ("hidden", "heads", "layers"))
    dense_layers = [n for n in (0, 1, 3, layers // 2) if n < layers] if cells["experts"] else [layers]
    head_dims = dict.fromkeys((hidden // heads, *HEAD_DIMS))
    # Tables that print as many key-value heads as heads may mean MLA.
    latent = (True,) if mla else (False, True) if cells["experts"] and cells["kv_heads"] == cells["heads"] else (False,)
    for is_mla, head_dim, matrices, dense, tied in product(latent, head_dims, (3, 2), dense_layers, (False, True)):
        for positions in dict.fromkeys((learned_positions if matrices == 2 else 0, 0)):
            yield Guess(is_mla, head_dim, matrices, dense, tied, positions)


def _best(cells: Cells, guesses: list[Guess], counts: tuple[str, ...]) -> Guess:
    best, least = guesses[0], inf
    for guess in guesses:
        error = _error(_dims(cells, guess), cells, counts)
        if error < least - TOO_SMALL_TO_TELL:
            best, least = guess, error
    return best


def _dims(cells: Cells, guess: Guess) -> Dims:
    hidden, heads, kv_heads = (int(cells[name] or 1) for name in ("hidden", "heads", "kv_heads"))
    expert_width = int(cells["expert_ffn"] or 0)
    qk_dim, v_dim = (NOPE_DIM + ROPE_DIM, MLA_V_DIM) if guess.mla else (guess.head_dim, guess.head_dim)
    return Dims(
        hidden=hidden,
        n_layers=int(cells["layers"] or 1),
        n_dense_layers=guess.dense_layers,
        vocab=int(cells["vocab"] or 0),
        n_heads=heads,
        n_kv_heads=kv_heads,
        qk_dim=qk_dim,
        v_dim=v_dim,
        attention_weights=_latent(hidden, heads) if guess.mla else 2 * hidden * (heads + kv_heads) * guess.head_dim,
        dense_width=int(cells["ffn"] or FFN_OVER_HIDDEN * hidden),
        dense_matrices=guess.matrices,
        n_experts=int(cells["experts"] or 0),
        experts_per_token=int(cells["topk"] or 0),
        expert_width=expert_width,
        shared_width=int(cells["shared_experts"] or 0) * expert_width,
        tied=int(guess.tied),
        learned_positions=guess.positions * hidden,
    )


def _latent(hidden: int, heads: int) -> int:
    q = hidden * Q_RANK + Q_RANK * heads * (NOPE_DIM + ROPE_DIM)
    kv = hidden * (KV_RANK + ROPE_DIM) + KV_RANK * heads * (NOPE_DIM + MLA_V_DIM)
    return q + kv + heads * MLA_V_DIM * hidden


def _error(dims: Dims, cells: Cells, counts: tuple[str, ...]) -> float:
    """Return |log| of counted over printed parameters beyond the last printed digit, summed over the counts."""
    counted = {"total_params_b": dims.total_parameters, "active_params_b": dims.active_parameters}
    error = 0.0
    for column in counts:
        if printed := cells[column]:
            digits = len(f"{printed:g}".partition(".")[2])
            rounding = log(1 + 0.5 * 10**-digits / printed)
            error += max(0.0, abs(log(float(counted[column]) / (printed * GIGA))) - rounding)
    return error
