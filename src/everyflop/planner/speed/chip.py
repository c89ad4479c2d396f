"""A device and its links in the units of the formulas: numbers, or arrays with one entry for each case."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from everyflop.accounting.dims import Numbers
from everyflop.base.errors import UsageError
from everyflop.base.units import GIGA, TERA
from everyflop.spec.device import DeviceSpec

MATMUL_SHARE, MATMUL_RIDGE, MATMUL_SLOPE, MOST_MATMUL_SHARE = 0.80, 280.0, -0.25, 0.95
"""Share of the bf16 peak in large matmuls where none was measured: 0.80 at 280 FLOP a byte of memory bandwidth, less
where the peak is higher for the bandwidth. A line through the measured chips: A100 153 FLOP/B and 0.87, Gaudi 2 176 and
0.97, Ascend 910B 221 and 0.86, B200 281 and 0.78, H100 295 and 0.80, GB200 312 and 0.73, Gaudi 3 453 and 0.74; AMD's
MI300 family lies below it (0.51 to 0.63), and was measured."""
FLOPS_PER_BYTE = 300.0
"""Peak over memory bandwidth where the bandwidth is not published."""
INSIDE_GB_PER_S = 64.0
"""Links of a node where none are published: PCIe 4 x16, both directions."""
BETWEEN_GBIT_PER_S = 100.0
DOMAIN = 8
WATTS_PER_TFLOPS = 0.7
"""Of the bf16 peak: an H100 SXM has 700 W for 989 TFLOP/s."""
MEM_GB = 64.0
USABLE_MEM_SHARE = 0.94
"""What is left of the memory after the driver, fragmentation and a reserve."""


@dataclass(frozen=True, slots=True)
class Chip:
    """Rates per second, bytes and FLOPs."""

    bf16_flops: Numbers
    fp8_flops: Numbers
    """0 without fp8."""
    matmul_share: Numbers
    """What its best matmul reaches of the bf16 peak."""
    mem_bytes_per_s: Numbers
    inside_bytes_per_s: Numbers
    """Links inside a domain, one direction."""
    between_bytes_per_s: Numbers
    """Network between domains, one direction."""
    domain: Numbers
    mem_gib: Numbers
    """What a training process can use."""
    watts_per_tflops: Numbers
    """Of the bf16 peak."""

    def peak(self, fp8: np.ndarray | bool) -> np.ndarray:
        """Return the dense peak in the type of the large matmuls."""
        return np.where(np.asarray(fp8) & (np.asarray(self.fp8_flops) > 0), self.fp8_flops, self.bf16_flops)

    @classmethod
    def stack(cls, chips: Sequence["Chip"]) -> "Chip":
        """Gather chips into arrays."""
        return cls(**{f.name: np.array([getattr(c, f.name) for c in chips], dtype=float) for f in fields(cls)})


def chip_of(
    device: DeviceSpec,
    *,
    scale_out_gbit_per_s: float | None = None,
    domain: int | None = None,
    power_limit_w: float | None = None,
) -> tuple[Chip, tuple[str, ...]]:
    """Return a device's numbers, and sentences that say which of them were assumed.

    Raises UsageError for a device of which neither a peak nor a measured matmul rate is known.
    """
    peak_tflops = _peak_tflops(device)
    known = _Figures(device.name)
    watts = power_limit_w or known(device.tdp_w, WATTS_PER_TFLOPS * peak_tflops, "power (W)")
    bandwidth = peak_tflops * TERA / FLOPS_PER_BYTE / GIGA
    bandwidth = known(device.mem_bw_gb_per_s, bandwidth, "memory bandwidth (GB/s)") * GIGA
    inside = known(device.scale_up_gb_per_s, INSIDE_GB_PER_S, "speed of the links in a node (GB/s)")
    measured = device.achieved_bf16_tflops and device.achieved_bf16_tflops / peak_tflops
    share = known(measured, _usual_matmul_share(peak_tflops * TERA / bandwidth), "share of the peak in matmul")
    between = known(scale_out_gbit_per_s or device.scale_out_gbit_per_s, BETWEEN_GBIT_PER_S, "network (Gbit/s)")
    chip = Chip(
        bf16_flops=peak_tflops * TERA,
        fp8_flops=(device.fp8_tflops or 0.0) * TERA,
        matmul_share=share,
        mem_bytes_per_s=bandwidth,
        inside_bytes_per_s=inside * GIGA / 2,
        between_bytes_per_s=between * GIGA / 8,
        domain=domain or known(device.scale_up_domain, DOMAIN, "devices in a node"),
        mem_gib=known(device.mem_gb, MEM_GB, "memory (GB)") * USABLE_MEM_SHARE,  # sold as GB, counted in GiB
        watts_per_tflops=watts / peak_tflops,
    )
    return chip, tuple(known.assumed)


class _Figures:
    """Takes figures of a device, or what is assumed where they are not published, and remembers what that was."""

    def __init__(self, device: str):
        self.device, self.assumed = device, list[str]()

    def __call__(self, value: float | None, default: float, what: str) -> float:
        if value is None:
            self.assumed.append(f"{self.device}: {what} is not published, {default:.3g} assumed")
        return default if value is None else value


def _peak_tflops(device: DeviceSpec) -> float:
    peak = device.bf16_tflops or device.achieved_bf16_tflops
    if peak is None:
        raise UsageError(
            f"device '{device.name}' has no known bf16 speed, so nothing can be predicted for it. "
            "Run `everyflop measure` on it, or give bf16_tflops in a [[device]] entry."
        )
    return peak


def _usual_matmul_share(ridge_flops_per_byte: float) -> float:
    return min(MATMUL_SHARE * (ridge_flops_per_byte / MATMUL_RIDGE) ** MATMUL_SLOPE, MOST_MATMUL_SHARE)
