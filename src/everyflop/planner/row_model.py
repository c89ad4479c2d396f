"""The model of a published measurement, from the sizes that tables print.

Tables leave out what their readers know: the size of a head, whether the MLP is gated, which layers are dense, whether
the embedding is tied. What reproduces the printed parameter counts best is taken; the first of equals is the commonest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import log

from everyflop.accounting.dims import Dims
from everyflop.base.units import GIGA

Q_RANK, KV_RANK, NOPE_DIM, ROPE_DIM, MLA_V_DIM = 1536, 512, 128, 64, 128
"""Multi-head latent attention as DeepSeek V2 and V3 have it; no other size is published in such tables."""

WRONG_COUNT = 0.05
UNKNOWN_PARAMS_B = 10.0

TOO_SMALL_TO_TELL = 3e-3
"""A share of the parameters: norms, biases and what a source counts differently."""

HEAD_DIMS = (128, 64, 96, 80, 256)


@dataclass(frozen=True, slots=True)
class RowModel:
    """Sizes of a model, and which of them were inferred."""

    dims: Dims
    notes: tuple[str, ...]


def row_model(cells: Mapping[str, float | None], *, mla: bool, learned_positions: int = 0) -> RowModel:
    """Return the model of a row; cells are its numbers by column, with None for a blank.

    A model of which only parameter counts are known gets the usual proportions of its size.
    """
    if not cells["layers"] or not cells["hidden"]:
        cells, shape = _usual_shape(cells)
        found = row_model(cells, mla=False)
        return RowModel(found.dims, (shape, *found.notes))
    best: tuple[float, Dims, str] | None = None
    for dims, inferred in _candidates(cells, mla, learned_positions):
        error = _error(dims, cells)
        if best is None or error < best[0] - TOO_SMALL_TO_TELL:
            best = (error, dims, inferred)
    assert best is not None  # there is always a plain candidate
    notes = [f"model: {best[2]}"]
    if best[0] > WRONG_COUNT:
        notes.append(f"its parameters differ from the printed count by {best[0]:.0%}")
    return RowModel(best[1], tuple(notes))


def _usual_shape(cells: Mapping[str, float | None]) -> tuple[dict[str, float | None], str]:
    """Fill in layers, hidden and experts: a width of 100 times the depth, experts a quarter as wide, 8 chosen."""
    total = (cells["total_params_b"] or cells["active_params_b"] or UNKNOWN_PARAMS_B) * GIGA
    active = min((cells["active_params_b"] or total / GIGA) * GIGA, total)
    hidden = cells["hidden"] or max(128.0, 128 * round((100 * active / 12) ** (1 / 3) / 128))
    layers = cells["layers"] or max(1.0, round(active / (12 * hidden**2)))
    given = {name: value for name, value in cells.items() if value}
    filled = {**cells, "hidden": hidden, "layers": layers, "heads": cells["heads"] or max(1.0, hidden // 128), **given}
    if total > 1.2 * active and not cells["experts"]:
        width = hidden / 4
        extra = (total - active) / (3 * hidden * width * layers)
        filled |= {"expert_ffn": width, "topk": 8.0, "experts": 8.0 + round(extra), "shared_experts": 0.0}
    unknown = "" if cells["total_params_b"] or cells["active_params_b"] else f", {UNKNOWN_PARAMS_B:g} B parameters"
    return filled, f"layers and widths unknown, usual proportions assumed{unknown}"


def _candidates(cells: Mapping[str, float | None], mla: bool, learned_positions: int) -> Iterator[tuple[Dims, str]]:
    hidden, heads, layers = int(cells["hidden"] or 0), int(cells["heads"] or 1), int(cells["layers"] or 1)
    even = hidden // heads
    for head_dim, matrices, dense_layers, tied in product(
        dict.fromkeys((even, *HEAD_DIMS)), (3, 2), _dense_layers(cells, layers), (0, 1)
    ):
        positions = learned_positions * hidden if matrices == 2 else 0
        dims = _dims(cells, head_dim, matrices, dense_layers, tied, positions, mla=mla)
        attention = "MLA" if mla else f"head {head_dim}"
        mlp = "gated MLP" if matrices == 3 else "plain MLP"
        yield dims, f"{attention}, {mlp}, {dense_layers} dense layers{', tied embedding' if tied else ''}"


def _dense_layers(cells: Mapping[str, float | None], layers: int) -> tuple[int, ...]:
    if not cells["experts"]:
        return (layers,)
    return (0, 1, 3, layers // 2)


def _dims(
    cells: Mapping[str, float | None],
    head_dim: int,
    matrices: int,
    dense_layers: int,
    tied: int,
    positions: int,
    *,
    mla: bool,
) -> Dims:
    hidden, heads = int(cells["hidden"] or 0), int(cells["heads"] or 1)
    kv_heads = int(cells["kv_heads"] or heads)
    qk, v = (NOPE_DIM + ROPE_DIM, MLA_V_DIM) if mla else (head_dim, head_dim)
    if mla:
        q = hidden * Q_RANK + Q_RANK * heads * qk
        kv = hidden * (KV_RANK + ROPE_DIM) + KV_RANK * heads * (NOPE_DIM + MLA_V_DIM)
        attention = q + kv + heads * v * hidden
    else:
        attention = hidden * (heads + 2 * kv_heads) * head_dim + heads * head_dim * hidden
    expert_width = int(cells["expert_ffn"] or 0)
    return Dims(
        hidden=hidden,
        n_layers=int(cells["layers"] or 1),
        n_dense_layers=dense_layers,
        vocab=int(cells["vocab"] or 100_000),
        n_heads=heads,
        n_kv_heads=kv_heads,
        qk_dim=qk,
        v_dim=v,
        window=2**40,
        attention_weights=attention,
        dense_width=int(cells["ffn"] or 4 * hidden),
        dense_matrices=matrices,
        n_experts=int(cells["experts"] or 0),
        experts_per_token=int(cells["topk"] or 0),
        expert_width=expert_width,
        shared_width=int(cells["shared_experts"] or 0) * expert_width,
        tied=tied,
        learned_positions=positions,
    )


def _error(dims: Dims, cells: Mapping[str, float | None]) -> float:
    """Return |log| of counted over printed parameters beyond the last printed digit, total and active ones summed."""
    error = 0.0
    for column, counted in (("total_params_b", dims.total_parameters), ("active_params_b", dims.active_parameters)):
        if printed := cells[column]:
            digits = len(f"{printed:g}".partition(".")[2])
            rounding = log(1 + 0.5 * 10**-digits / printed)
            error += max(0.0, abs(log(float(counted) / (printed * GIGA))) - rounding)
    return error
