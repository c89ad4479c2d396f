"""The device that this process trains on: its name and its abilities."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["bf16", "fp32"]

DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator, or the processor."""

    type: str
    name: str
    fast_bf16: bool
    """Whether bf16 matmuls run on units made for them. Decided by instruction set, never by a stopwatch."""

    @property
    def torch(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.type)

    @property
    def best_precision(self) -> Precision:
        """What precision = "auto" means here."""
        return "bf16" if self.fast_bf16 else "fp32"


def detect(*, processor: bool = False) -> Device:
    """Return the accelerator that torch sees, else the processor; with `processor`, always the processor."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or processor:
        return Device("cpu", _cpu_name(), _cpu_has_fast_bf16())
    module = torch.get_device_module(accelerator)
    name = getattr(module, "get_device_name", lambda: accelerator.type)()
    return Device(accelerator.type, name, _has_fast_bf16(module))


def _has_fast_bf16(module: Any) -> bool:
    """Ask a vendor's module; one that does not tell has it, as all trainers of today have."""
    supported = getattr(module, "is_bf16_supported", None)
    if supported is None:
        return True
    try:
        return supported(including_emulation=False)  # some count slow emulation otherwise
    except TypeError:
        return supported()


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'}, {os.cpu_count()} cores"


def _cpu_has_fast_bf16() -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))


def instruction_set() -> str:
    """Return what a processor computes with: libraries choose by all of it, and round otherwise with another."""
    has = getattr(torch.cpu, "get_capabilities", dict)()
    units = [unit for unit in ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16") if has.get(unit)]
    return ", ".join([torch.backends.cpu.get_cpu_capability(), has.get("cpu_name", platform.processor()), *units])


def arithmetic(device: torch.device) -> str:
    """Return what decides how a device rounds sums: where it is the same, so are the bits of an optimizer's step."""
    if device.type == "cpu":
        kind = f"{platform.machine()} {instruction_set()}, {torch.get_num_threads()} threads"
    else:
        name = getattr(torch.get_device_module(device), "get_device_name", lambda: device.type)
        kind = f"{device.type} {name()}"
    return f"{kind}, torch {torch.__version__}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
