"""Fill the gaps of a device from the one that it is said to be like, and say so.

There are no defaults for a class of devices: what is still missing then is named and left to whoever needs it.
"""

from collections.abc import Iterator

from everyflop.catalog.catalog import Catalog
from everyflop.spec.device import DeviceSpec

FIGURES = {
    "architecture": "architecture",
    "bf16_tflops": "bf16 peak",
    "fp8_tflops": "fp8 peak",
    "mem_gb": "memory",
    "mem_bw_gb_per_s": "memory bandwidth",
    "scale_up_gb_per_s": "links inside a domain",
    "scale_up_domain": "size of a domain",
    "scale_out_gbit_per_s": "network",
    "tdp_w": "power",
}
"""What a prediction reads, and what people call it."""

OPTIONAL = {"fp8_tflops", "tdp_w"}
"""No gap: the device may have no fp8, and the power matters little."""

SAME_PEAK_SHARE = 0.02
"""A matmul that was measured says nothing under another peak; peaks that differ by less are one, rounded twice."""

SOFTWARE = ("torch_device", "collective_library", "plugin")


def filled(device: DeviceSpec, catalog: Catalog) -> tuple[DeviceSpec, tuple[str, ...]]:
    """Return the device with its gaps filled along `like`, and sentences on what was taken and what is still missing.

    Raises UsageError where `like` names no device.
    """
    notes: list[str] = []
    for other in _likes(device, catalog):
        taken = [key for key in FIGURES if not getattr(device, key) and getattr(other, key)]
        words = [FIGURES[key] for key in taken]
        if "scale_up_gb_per_s" in taken:
            taken.append("scale_up_link")
        if _tells_matmul(other, device):
            taken += ["achieved_bf16_tflops", "achieved_source"]
            words.append("measured matmul")
        software = [key for key in SOFTWARE if not getattr(device, key)]
        device = device.model_copy(update={key: getattr(other, key) for key in [*taken, *software]})
        if words:
            notes.append(f"{device.name}: inferred from {other.name}, which it is said to be like: {', '.join(words)}")
    missing = [word for key, word in FIGURES.items() if key not in OPTIONAL and not getattr(device, key)]
    if missing:
        notes.append(f"{device.name}: not known: {', '.join(missing)}")
    return device, tuple(notes)


def _tells_matmul(other: DeviceSpec, device: DeviceSpec) -> bool:
    """Whether what was measured on another device holds for this one, of which nothing was measured."""
    if device.achieved_bf16_tflops or not other.achieved_bf16_tflops or not other.bf16_tflops:
        return False
    peak = device.bf16_tflops or other.bf16_tflops
    return abs(peak / other.bf16_tflops - 1) <= SAME_PEAK_SHARE


def _likes(device: DeviceSpec, catalog: Catalog) -> Iterator[DeviceSpec]:
    """Yield the device that one is like, the one which that is like, and so on, each once."""
    seen = {device.name}
    while device.like and (device := catalog.find(device.like)).name not in seen:
        seen.add(device.name)
        yield device
