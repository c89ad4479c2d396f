"""Measure this device's matmuls, large squares and a model's own shapes."""

from dataclasses import dataclass

from everyflop.accounting.parameters import parameter_shapes
from everyflop.backend.device import DTYPES, Device
from everyflop.backend.rates import FEWEST_BURSTS, MATMULS_PER_BURST, MatmulShape, matmul_flops_per_s
from everyflop.base.progress import OpenProgress
from everyflop.spec.model import ModelSpec

SQUARES = (512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True, slots=True)
class MatmulRate:
    """How fast one shape of matmul is."""

    what: str
    shape: MatmulShape
    precision: str
    flops_per_s: float


def measure_matmuls(
    shapes: dict[MatmulShape, str], precision: str, device: Device, *, seconds: float, progress: OpenProgress
) -> list[MatmulRate]:
    """Measure each shape, given with its name, for an equal part of the time; those too large for it are left out."""
    share_s = seconds / len(shapes)
    rates: list[MatmulRate] = []
    with progress(f"Matmuls in {precision}", total=len(shapes), unit="shapes") as bar:
        for shape, what in shapes.items():
            best = max((rate.flops_per_s for rate in rates), default=float("inf"))
            if _least_flops(shape) / best <= 4 * share_s:
                flops_per_s = matmul_flops_per_s(device.torch, DTYPES[precision], seconds=share_s, shape=shape)
                rates.append(MatmulRate(what, shape, precision, flops_per_s))
            bar.advance()
    return rates


def square_shapes() -> dict[MatmulShape, str]:
    """Return square matmuls from small to large: the best of them is what a device can do."""
    return {(size, size, size): "square" for size in SQUARES}


def model_shapes(model: ModelSpec, positions: int) -> dict[MatmulShape, str]:
    """Return a model's own matmuls for so many positions at once, each shape under the first name that has it.

    An expert's rows are what it gets when all are used alike.
    """
    shapes: dict[MatmulShape, str] = {}
    for name, shape in parameter_shapes(model).items():
        if len(shape) == 1 or (name.startswith("embed.") and not model.tied_embeddings):
            continue
        is_expert = len(shape) == 3
        rows = max(positions * model.experts_per_token // model.n_experts, 1) if is_expert else positions
        columns, inner = shape[-2:]
        shapes.setdefault((rows, inner, columns), _short(name))
    return shapes


def _short(name: str) -> str:
    """Drop the layer's number and what says nothing: layers.0.attn.qkv.weight -> attn.qkv."""
    words = [word for word in name.split(".") if not word.isdigit() and word not in ("layers", "weight")]
    return ".".join(words)


def _least_flops(shape: MatmulShape) -> float:
    """Return the floating-point operations of the shortest measurement of a shape."""
    rows, inner, columns = shape
    return FEWEST_BURSTS * MATMULS_PER_BURST * 2.0 * rows * inner * columns
