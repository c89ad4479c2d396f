"""Sizes of a model that a table's line leaves blank, filled with what is usual.

A line of which only parameter counts are known gets a whole model with the usual proportions.
"""

from collections.abc import Mapping

from everyflop.base.units import GIGA

Cells = Mapping[str, float | None]
"""Numbers of a line by column, None for a blank."""

UNKNOWN_SHAPE = "layers and widths unknown"
UNKNOWN_PARAMS_B = 10.0
WIDTH_OVER_DEPTH = 100
"""Channels of a model for each of its layers."""
HEAD_DIM = 128
VOCAB = 100_000
FFN_OVER_HIDDEN = 4
EXPERTS_PER_TOKEN, EXPERTS = 8, 64
ACTIVE_SHARE = 0.1
"""Of an MoE model's parameters, those that a token meets, where only the total is known."""
EXPERT_OVER_HIDDEN = 0.25


def filled_sizes(cells: Cells, *, moe: bool = False) -> tuple[dict[str, float | None], list[str]]:
    """Return the cells with no size of the model blank that matters, and what was assumed.

    moe: whether the line says that the model has experts, even if not how many.
    """
    notes: list[str] = []
    no_experts = moe and not cells["experts"]
    if no_experts and not cells["active_params_b"]:
        active = ACTIVE_SHARE * (cells["total_params_b"] or UNKNOWN_PARAMS_B)
        cells = {**cells, "active_params_b": active}
        notes.append(f"active_params_b unknown, {active:g} assumed")
    if not cells["layers"] or not cells["hidden"]:
        cells = _usual_shape(cells)
        counted = cells["total_params_b"] or cells["active_params_b"]
        unknown = "" if counted else f", {UNKNOWN_PARAMS_B:g} B parameters"
        notes.append(f"{UNKNOWN_SHAPE}, usual proportions assumed{unknown}")
    elif no_experts:
        experts = _usual_experts(cells)
        cells = {**cells, **experts}
        notes.append(f"experts unknown, {experts['experts']:g} assumed")
    filled = dict(cells)
    for column, usual in _usual(cells).items():
        if not filled[column]:
            filled[column] = usual
            notes.append(f"{column} unknown, {usual:g} assumed")
    return filled, notes


def _usual(cells: Cells) -> dict[str, float]:
    """Return what each size usually is beside those that are known."""
    hidden, experts = cells["hidden"] or 0.0, cells["experts"] or 0.0
    heads = cells["heads"] or max(1.0, hidden // HEAD_DIM)
    usual = {"heads": heads, "kv_heads": heads, "vocab": float(VOCAB)}
    if not experts:
        return usual | {"ffn": FFN_OVER_HIDDEN * hidden}
    chosen = cells["topk"] or min(experts, EXPERTS_PER_TOKEN)
    return usual | {"topk": chosen, "expert_ffn": _expert_width(cells, idle_experts=experts - chosen)}


def _expert_width(cells: Cells, *, idle_experts: float) -> float:
    """Return the width that makes the experts which a token does not meet as large as the printed counts say."""
    total, active, hidden = cells["total_params_b"] or 0.0, cells["active_params_b"] or 0.0, cells["hidden"] or 1.0
    if total > active > 0 and idle_experts > 0:
        return float(round((total - active) * GIGA / (3 * hidden * (cells["layers"] or 1.0) * idle_experts)))
    return cells["ffn"] or EXPERT_OVER_HIDDEN * hidden  # some tables print the experts' width there


def _usual_shape(cells: Cells) -> dict[str, float | None]:
    """Fill in layers and hidden, and experts where more parameters are counted than a token meets."""
    total = (cells["total_params_b"] or cells["active_params_b"] or UNKNOWN_PARAMS_B) * GIGA
    active = min((cells["active_params_b"] or total / GIGA) * GIGA, total)
    # A layer has 12 hidden^2 weights: 4 in attention and 8 in a plain MLP.
    hidden = cells["hidden"] or max(128.0, 128 * round((WIDTH_OVER_DEPTH * active / 12) ** (1 / 3) / 128))
    layers = cells["layers"] or max(1.0, round(active / (12 * hidden**2)))
    filled = {**cells, "hidden": hidden, "layers": layers, "heads": cells["heads"] or max(1.0, hidden // HEAD_DIM)}
    return filled | _usual_experts(filled) if total > 1.2 * active and not cells["experts"] else filled


def _usual_experts(cells: Cells) -> dict[str, float]:
    """Return as many experts of usual width as hold the parameters that a token does not meet."""
    hidden, layers = cells["hidden"] or 1.0, cells["layers"] or 1.0
    width = cells["expert_ffn"] or EXPERT_OVER_HIDDEN * hidden
    idle = ((cells["total_params_b"] or 0.0) - (cells["active_params_b"] or 0.0)) * GIGA / (3 * hidden * width * layers)
    chosen = cells["topk"] or float(EXPERTS_PER_TOKEN)
    experts = chosen + round(idle) if idle > 0 else max(chosen, float(EXPERTS))
    return {"expert_ffn": width, "topk": chosen, "experts": experts, "shared_experts": cells["shared_experts"] or 0.0}
