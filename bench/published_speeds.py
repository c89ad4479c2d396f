"""Tokens per second of published measurements, where a table prints only TFLOP/s or MFU too.

Each source counts its own FLOPs (attention in full, halved or not at all; recomputation in or out), so each is undone
with its own count. A speed that is converted is less sure than one that is printed.
"""

from collections.abc import Mapping

from everyflop.accounting.dims import Dims
from everyflop.accounting.model_flops import training_flops_per_token
from everyflop.base.units import TERA

H100_TFLOPS = 989.5
METAX_C500_TFLOPS = 240.0

CONVERTED_DOUBT = 0.08
QUALITY_DOUBT = {"A": 0.0, "B": 0.10}
"""Standard deviation of log speed beyond the noise: B rows lack part of the layout or batch."""


def printed_speed(row: Mapping[str, str]) -> float | None:
    """Return the tokens/s per device that a row prints, or None."""
    return float(row["derived_tps_per_device"]) if row["derived_tps_per_device"] else None


def converted_speed(row: Mapping[str, str], dims: Dims) -> float | None:
    """Return tokens/s per device from a row's TFLOP/s or MFU in the convention of its source, or None."""
    tflops = float(row["metric_tflops_per_device"]) if row["metric_tflops_per_device"] else None
    mfu = float(row["metric_mfu_pct"]) / 100 if row["metric_mfu_pct"] else None
    source = row["source_id"]
    if source == "sc21" and tflops:  # 96 B s l h^2 (1 + s/6h + V/16lh): the recomputed forward pass is counted
        s, h, n, v = (float(row[name]) for name in ("seq_len", "hidden", "layers", "vocab"))
        return tflops * TERA / (96 * n * h**2 * (1 + s / (6 * h) + v / (16 * n * h)))
    if source in ("moe_parallel_folding", "mcore_moe_readme"):  # attention in full
        rate = tflops or (mfu or 0.0) * H100_TFLOPS
        return rate * TERA / float(training_flops_per_token(dims, float(row["seq_len"]), scores="full")) or None
    if source == "flagperf" and mfu:  # 6N and no attention
        return mfu * METAX_C500_TFLOPS * TERA / (6 * float(dims.active_parameters))
    return None
