"""The devices that a plan's islands need, on this machine."""

from pathlib import Path

from everyflop.backend.device import Device, detect
from everyflop.base.errors import ExpectedNo
from everyflop.spec.plan import PlannedIsland
from everyflop.train.plan import Planned


def devices_here(planned: Planned) -> list[Device]:
    """Find the device of each of a plan's islands on this machine. Raises ExpectedNo where one is not here."""
    return [_device_for(island, planned.path) for island in planned.plan.islands]


def _device_for(island: PlannedIsland, path: Path) -> Device:
    device = detect(processor=island.torch_device == "cpu")
    if island.torch_device not in ("", device.type):
        raise ExpectedNo(
            f"the plan {path} needs {island.device} for {island.name}, which is torch device '{island.torch_device}', "
            f"and here is '{device.type}' ({device.name}). Run it there, or make a plan for this device."
        )
    return device
