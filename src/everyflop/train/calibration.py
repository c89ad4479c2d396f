"""Write down what was measured as entries that a plan takes: a device's figures and a training speed."""

import datetime
import re
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from everyflop.backend.device import Device
from everyflop.backend.memory import total_bytes
from everyflop.backend.others import is_disturbed
from everyflop.base.errors import UsageError
from everyflop.base.units import GIB, GIGA, TERA, percent
from everyflop.spec.device import DeviceSpec
from everyflop.spec.layout import Layout
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.measured_file import Measurements
from everyflop.train.measure import Measured
from everyflop.train.step_speed import StepSpeed


@dataclass(frozen=True, slots=True)
class Provenance:
    """When and with what something was measured."""

    date: str
    source: str


def calibration(measured: Measured, device: Device, *, known: DeviceSpec) -> Measurements:
    """Return the entries for what was measured of a device, today; `known` is what the catalogue says of it."""
    by = provenance(device, measured.others_share)
    entry = device_entry(measured, device, known=known, by=by)
    step, share = measured.step, measured.others_share
    speeds = (speed_entry(step, device=entry.name, by=by, others_share=share),) if step else ()
    return Measurements(device=(entry,), measured=speeds)


def provenance(device: Device, others_share: float | None) -> Provenance:
    """Return today, and what measures: everyflop on this device, with its version of torch, and what disturbed it."""
    today = datetime.date.today().isoformat()
    parts = ["everyflop measure", today, f"torch {torch.__version__}", device.name]
    if device.type == "cpu":
        parts.append(f"{torch.get_num_threads()} threads")
    if is_disturbed(others_share):
        parts.append(f"while others used {percent(others_share or 0)} of the processor")
    return Provenance(today, ", ".join(parts))


def device_entry(measured: Measured, device: Device, *, known: DeviceSpec, by: Provenance) -> DeviceSpec:
    """Return what measuring adds to what is known of a device; figures that its maker publishes stay as they are.

    The best matmul counts in the type that trains here: fp32 where the device has no units for bf16.
    """
    entry: dict[str, Any] = {
        "name": known.name,
        "achieved_bf16_tflops": _figures(measured.best_flops_per_s(device.best_precision) / TERA),
        "achieved_source": f"{device.best_precision} matmul, {by.source}",
    }
    if not known.source:  # of no catalogue, whose entries all have one
        entry |= {"title": known.title, "vendor": known.vendor}
    if known.bf16_tflops is None:  # no published figures: these are all there are
        entry["source"] = by.source
    figures = {
        "torch_device": device.type,
        "mem_gb": _figures(total_bytes(device.torch) / GIB),  # sold as GB, counted in GiB
        "mem_bw_gb_per_s": _figures(measured.memory_bytes_per_s / GIGA),
    }
    entry |= {key: value for key, value in figures.items() if not getattr(known, key)}
    return DeviceSpec(**entry)


def uncatalogued(device: Device, *, name: str | None = None) -> DeviceSpec:
    """Return a device that the catalogue does not have, by default under the name that torch has for it.

    Raises UsageError for a name that no file takes.
    """
    if name is None:
        name = re.sub(r"[^a-z0-9.]+", "-", device.name.lower()).strip("-.")
    try:
        return DeviceSpec(name=name, title=device.name, vendor=device.name.split()[0])
    except ValidationError:
        raise UsageError(f"'{name}' is no name for a device: use small letters, digits, dots and dashes.") from None


def speed_entry(speed: StepSpeed, *, device: str, by: Provenance, others_share: float | None) -> MeasuredSpeed:
    """Return how fast a run trains on one device, by the device's name in files, and how much others disturbed it."""
    settled, train = speed.run, speed.run.run.train
    return MeasuredSpeed(
        device=device,
        date=by.date,
        source=by.source,
        model=settled.model,
        seq_len=train.seq_len,
        batch_tokens=settled.batch_tokens,
        precision=settled.precision,
        layout=Layout(
            sharding="none",
            recompute="full" if train.recompute == "layer" else "none",
            micro_batch=settled.micro_batch,
        ),
        tokens_per_s_per_device=_figures(speed.tokens_per_s),
        peak_mem_gib=_figures(speed.peak_mem_gib),
        others_share=None if others_share is None else round(others_share, 2),
    )


def _figures(value: float) -> float:
    """Round to four figures: no measurement repeats to more."""
    return float(f"{value:.4g}")
