"""The file that `everyflop measure` writes: [[device]] and [[measured]], as a fleet file has them.

Measuring again replaces what it measured before and keeps the rest, so that one file holds all of a user's devices.
"""

import copy
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.base.files import write_atomic
from everyflop.spec.base import Spec
from everyflop.spec.device import DeviceSpec
from everyflop.spec.file_kind import FileKind
from everyflop.spec.fleet import Fleet
from everyflop.spec.fleet_file import FLEET_FILE, KnownDevices, device_problems
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.plausible import implausible
from everyflop.spec.presets import preset, preset_names
from everyflop.spec.toml_file import load_tables, parse_tables, with_lines

SCHEMA = 1

HEADER = (
    "# Written by `everyflop measure`, which replaces an entry when it measures the same again and keeps the others.\n"
    "# It does not keep comments. `everyflop plan` takes this file with --measured.\n\n"
)


class Measurements(Spec):
    """What was measured of devices, and how fast they trained."""

    devices: tuple[DeviceSpec, ...] = Field(alias="device", default=())
    measured: tuple[MeasuredSpeed, ...] = ()


MEASURED_FILE = FileKind(
    title="file of measurements",
    remedy="`everyflop measure` writes one.",
    spec=Measurements,
    schema=SCHEMA,
    stand_ins=FLEET_FILE.stand_ins,
    also_known=FLEET_FILE.also_known,
    hint=FLEET_FILE.hint,
)


def read_measured(path: str | Path, *, catalog: KnownDevices) -> Measurements:
    """Return the measurements of a TOML file.

    Raises InvalidFile with all problems (key, line, hint) or without any measurement, UsageError if it is missing.
    """
    found = _read(Path(path), catalog)
    if not found.devices and not found.measured:
        raise InvalidFile(path, [Problem("measured", "is missing, and so is device", MEASURED_FILE.remedy)])
    return found


def _read(path: Path, catalog: KnownDevices) -> Measurements:
    tables, text = load_tables(path, MEASURED_FILE)
    found, problems = parse_tables(copy.deepcopy(tables), MEASURED_FILE)
    devices = None if any(problem.key.startswith("device") for problem in problems) else found.devices
    problems += implausible(tables)
    problems += device_problems(tables, devices, catalog)
    if problems:
        raise InvalidFile(path, sorted(with_lines(problems, text), key=lambda problem: problem.line or 0))
    return found


def earlier_measurements(path: str | Path, *, catalog: KnownDevices) -> Measurements:
    """Return what a file holds that is to be written again: nothing where there is none, or an empty one.

    Raises UsageError where it could not be written, InvalidFile where it holds anything but measurements.
    """
    path = Path(path)
    if path.exists():
        return _read(path, catalog)
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist. Create it first, or choose another with --out.")
    return Measurements()


def merge(earlier: Measurements, new: Measurements) -> Measurements:
    """Return both, where what is new replaces what it measured again."""
    devices = {device.name: device for device in (*earlier.devices, *new.devices)}
    measured = newest((*earlier.measured, *new.measured))
    return Measurements(device=tuple(devices.values()), measured=measured)


def newest(speeds: Iterable[MeasuredSpeed]) -> tuple[MeasuredSpeed, ...]:
    """Return speeds without those that a later one measured again: together they would count as two that agree."""
    return tuple({_what(speed): speed for speed in speeds}.values())


def _what(speed: MeasuredSpeed) -> Hashable:
    """Return what was measured, without how fast it was and who says so."""
    return speed.model_dump_json(exclude={"date", "source", "tokens_per_s_per_device", "peak_mem_gib", "others_share"})


def write_measured(path: str | Path, measurements: Measurements) -> None:
    """Write measurements as TOML, whole or not at all; the folder must exist."""
    tables: dict[str, Any] = {
        "schema": SCHEMA,
        "device": [device.model_dump(mode="json", exclude_unset=True) for device in measurements.devices],
        "measured": [_tables(speed) for speed in measurements.measured],
    }
    filled = {key: value for key, value in tables.items() if value}
    write_atomic(Path(path), HEADER + tomli_w.dumps(filled))


def _tables(speed: MeasuredSpeed) -> dict[str, Any]:
    """Return a [[measured]] table, with a published model by its name."""
    published = [name for name in preset_names() if preset(name) == speed.model]
    return speed.to_tables() | ({"model": published[0]} if published else {})


def with_measurements(fleet: Fleet, measurements: Iterable[Measurements]) -> Fleet:
    """Return the fleet with measurements as if they stood in its file. Where both say something, the fleet does."""
    files = [*measurements]
    devices: dict[str, DeviceSpec] = {}
    for device in (*(device for found in files for device in found.devices), *fleet.devices):
        given = {key: getattr(device, key) for key in device.model_fields_set}
        earlier = devices.get(device.name)
        devices[device.name] = earlier.model_copy(update=given) if earlier else device
    from_files = (speed for found in files for speed in found.measured)
    speeds = newest((*fleet.measured, *from_files, *fleet.measured))  # the fleet's first, and in their places
    return fleet.model_copy(update={"devices": tuple(devices.values()), "measured": speeds})
