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
}
"""What a prediction reads, and what people call it."""

OPTIONAL = {"fp8_tflops"}
"""No gap: the device may have none."""

COMPANIONS = {
    "bf16_tflops": ("achieved_bf16_tflops", "achieved_source"),
    "scale_up_gb_per_s": ("scale_up_link",),
}
"""What belongs to a figure and comes with it. A matmul that was measured says nothing under another peak."""

SOFTWARE = ("torch_device", "collective_library", "plugin")


def filled(device: DeviceSpec, catalog: Catalog) -> tuple[DeviceSpec, tuple[str, ...]]:
    """Return the device with its gaps filled along `like`, and sentences on what was taken and what is still missing.

    Raises UsageError where `like` names no device.
    """
    notes: list[str] = []
    for other in _likes(device, catalog):
        taken = [key for key in FIGURES if not getattr(device, key) and getattr(other, key)]
        with_companions = [*taken, *(key for figure in taken for key in COMPANIONS.get(figure, ()))]
        software = [key for key in SOFTWARE if not getattr(device, key)]
        device = device.model_copy(update={key: getattr(other, key) for key in [*with_companions, *software]})
        if taken:
            words = ", ".join(FIGURES[key] for key in taken)
            notes.append(f"{device.name}: inferred from {other.name}, which it is said to be like: {words}")
    missing = [word for key, word in FIGURES.items() if key not in OPTIONAL and not getattr(device, key)]
    if missing:
        notes.append(f"{device.name}: not known: {', '.join(missing)}")
    return device, tuple(notes)


def _likes(device: DeviceSpec, catalog: Catalog) -> Iterator[DeviceSpec]:
    """Yield the device that one is like, the one which that is like, and so on, each once."""
    seen = {device.name}
    while device.like and (device := catalog.find(device.like)).name not in seen:
        seen.add(device.name)
        yield device
