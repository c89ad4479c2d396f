"""Read a fleet file, with every problem named in one pass: wrong values, confused units, unknown devices, bad links."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.device import DeviceSpec
from everyflop.spec.file_kind import FileKind
from everyflop.spec.fleet import SCHEMA, Fleet
from everyflop.spec.plausible import implausible
from everyflop.spec.plausible_money import implausible_money
from everyflop.spec.toml_file import Tables, entries, load_tables, parse_tables, with_lines


class KnownDevices(Protocol):
    """What reading asks of the catalogue, which lies in a layer above."""

    def find(self, name: str) -> DeviceSpec:
        """Return a device. Raises UsageError, with the nearest names, for an unknown one."""
        ...

    def problems_with(self, devices: Sequence[DeviceSpec]) -> list[Problem]:
        """Return what keeps a user's devices out, with keys such as device[0].vendor."""
        ...

    def with_devices(self, devices: Sequence[DeviceSpec]) -> "KnownDevices":
        """Return a catalogue with a user's devices added."""
        ...


_NAME = "letters, digits, dots, dashes and underscores"
_HINTS = {
    "pool": 'a [[pool]] has name, device, count and price_per_device_hour, such as device = "h100-sxm", count = 512',
    "pool.name": _NAME,
    "pool.count": "count = 512, or count = [256, 2048]",
    "pool.price_per_device_hour": "a price is never invented; `everyflop catalog show DEVICE` lists what others paid",
    "pool.currency": 'three capital letters, such as "USD" or "CNY"',
    "pool.scale_out_gbit_per_s": "leave it out to take the device's usual network",
    "link.between": 'the names of two pools: between = ["a", "b"]',
    "link.gbit_per_s": "of the whole link; leave the [[link]] out where there is no connection",
    "money.currency": 'three capital letters, such as "USD" or "CNY"',
    "money.rates": "a currency and how many units of money.currency one unit of it is: USD = 7.1",
    "device.name": 'small letters, digits, dots and dashes, such as "h100-sxm"',
    "measured.date": 'a day such as 2026-09-16, or a month such as "2026-09"',
}


def hint(key: str, value: Any) -> str:
    """Return what to do about a wrong value of a fleet file's key, or a missing one (None)."""
    if key == "pool.price_per_device_hour" and value == 0:
        return "devices of your own cost their power and their loss of value: write that"
    if key == "pool.max_share" and isinstance(value, int | float) and 1 < value <= 100:
        return f"it looks like a percentage: write {value / 100:g}"
    return _HINTS.get(key, "")


FLEET_FILE = FileKind(
    title="fleet file",
    remedy="recipes/fleets/ in everyflop's repository has files to start from.",
    spec=Fleet,
    schema=SCHEMA,
    stand_ins={
        "pool": [{"name": "x", "device": "x", "count": 1, "price_per_device_hour": 1.0}],
        "name": "x",
        "device": "x",
        "between": ["x", "x"],
        "date": "2026-01",
        "source": "x",
        "model": "ling-lite",
        "family": "qwen3-moe",
    },
    also_known=("measured.model.preset",),
    hint=hint,
)


def read_fleet(path: str | Path, *, catalog: KnownDevices) -> Fleet:
    """Return the fleet that a TOML file describes; without a name of its own it has the file's.

    Raises InvalidFile with all problems (key, line, hint), UsageError if the file is missing.
    """
    path = Path(path)
    tables, text = load_tables(path, FLEET_FILE)
    fleet, problems = parse_fleet(tables, catalog=catalog)
    if fleet is None:
        raise InvalidFile(path, sorted(with_lines(problems, text), key=lambda problem: problem.line or 0))
    return fleet if fleet.name else fleet.model_copy(update={"name": path.stem})


def parse_fleet(tables: Tables, *, catalog: KnownDevices) -> tuple[Fleet | None, list[Problem]]:
    """Validate fleet-file tables. Returns the fleet and no problem, or None and every problem found."""
    fleet, problems = parse_tables(copy.deepcopy(tables), FLEET_FILE)
    devices = None if any(problem.key.startswith("device") for problem in problems) else fleet.devices
    problems += [*implausible(tables), *implausible_money(tables)]
    problems += device_problems(tables, devices, catalog)
    return (None if problems else fleet), problems


def device_problems(tables: Tables, devices: Sequence[DeviceSpec] | None, catalog: KnownDevices) -> list[Problem]:
    """Return a problem for each name of a device that neither the catalogue nor the file's own [[device]] has.

    devices are the file's own; None where they are not valid, and then only their names count.
    """
    problems = catalog.problems_with(devices or ())
    if devices is not None and not problems:
        own, catalog = set[str](), catalog.with_devices(devices)
    else:
        own = {text for _, entry in entries(tables, "device") for text in _names(entry)}
    return problems + [
        Problem(f"{table}[{number}].device", complaint)
        for table in ("pool", "measured")
        for number, entry in entries(tables, table)
        if isinstance(name := entry.get("device"), str) and name and name not in own
        if (complaint := _complaint(name, catalog))
    ]


def _names(device: Tables) -> list[str]:
    aliases = device.get("aliases")
    return [
        text for text in [device.get("name"), *(aliases if isinstance(aliases, list) else [])] if isinstance(text, str)
    ]


def _complaint(name: str, catalog: KnownDevices) -> str:
    try:
        catalog.find(name)
    except UsageError as error:
        return str(error)
    return ""
