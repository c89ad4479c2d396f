"""How much memory a device has, and how much of it this process held at most."""

import os
import resource
import sys

import torch

from everyflop.base.units import GIB


def total_bytes(device: torch.device) -> int:
    """Return the memory of a device; of the processor, that of the machine."""
    if device.type == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return torch.accelerator.get_memory_info(device)[1]


def forget_peak(device: torch.device) -> None:
    """Let peak_gib count from here on; on the processor nothing can be forgotten."""
    if device.type != "cpu":
        torch.accelerator.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Return the most memory that tensors held so far; on the processor, the most that the process held, in GiB."""
    return peak_rss_gib() if device.type == "cpu" else torch.accelerator.max_memory_allocated(device) / GIB


def peak_rss_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
