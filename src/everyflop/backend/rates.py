"""Measure what a device really does: matmuls a second, bytes of memory a second.

Each rate is the best of short bursts: what the device can do, not what the machine left it in that moment.
"""

import time
from collections.abc import Callable

import torch

from everyflop.backend.device import synchronize
from everyflop.base.units import MIB

MATMULS_PER_BURST, FEWEST_BURSTS = 4, 3

MatmulShape = tuple[int, int, int]
"""Rows and inner width of the left matrix, columns of the right one."""


def matmul_flops_per_s(
    device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5, shape: MatmulShape | None = None
) -> float:
    """Measure the rate of matmuls of one shape; of large squares, it is the machine's practical peak for MFU.

    By default those are as large as the kind of device needs: small ones leave most of an accelerator idle.
    """
    rows, inner, columns = shape or ((1024,) * 3 if device.type == "cpu" else (8192,) * 3)
    a = torch.ones(rows, inner, dtype=dtype, device=device)
    b = torch.ones(inner, columns, dtype=dtype, device=device)

    def burst() -> None:
        for _ in range(MATMULS_PER_BURST):
            torch.mm(a, b)

    return _best_rate(MATMULS_PER_BURST * 2.0 * rows * inner * columns, burst, device, seconds)


def memory_bytes_per_s(device: torch.device, *, seconds: float = 0.5, mib: int = 512) -> float:
    """Measure how fast tensors of `mib` MiB, too large for caches, are copied and added: bytes read and written."""
    size = mib * MIB
    a, b = (torch.ones(size // 4, dtype=torch.float32, device=device) for _ in range(2))
    copied = _best_rate(2.0 * size, lambda: a.copy_(b), device, seconds / 2)
    added = _best_rate(3.0 * size, lambda: a.add_(b), device, seconds / 2)
    return max(copied, added)


def _best_rate(work: float, burst: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Repeat a burst for some time, a few times at least, and return its work over the time of the fastest.

    A single burst may meet another process on its core.
    """
    best, bursts = 0.0, 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or bursts < FEWEST_BURSTS:
        started = time.perf_counter()
        burst()
        synchronize(device)
        best = max(best, work / (time.perf_counter() - started))
        bursts += 1
    return best
