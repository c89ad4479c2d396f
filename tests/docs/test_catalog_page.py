"""docs/catalog.md says what the catalogue holds, and shows a fleet file that is one."""

import re
from pathlib import Path

from everyflop.catalog.fill import filled
from everyflop.catalog.load import load_catalog
from everyflop.spec.device import DeviceSpec
from everyflop.spec.fleet_file import read_fleet

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")

NO_VENDORS = {"any", "undisclosed"}
"""Of the CPU host and of the Ling report's devices."""


def test_the_page_counts_devices_and_vendors():
    devices = load_catalog().devices.values()
    vendors = {device.vendor for device in devices} - NO_VENDORS

    assert f"{len(devices)} devices of {len(vendors)} vendors" in PAGE


def test_every_key_of_a_device_is_explained():
    table = re.search(r"^\| figure .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    explained = set(re.findall(r"`(\w+)`", table[0]))

    assert set(DeviceSpec.model_fields) - explained == {"name", "title", "aliases", "vendor", "year"}
    assert explained <= set(DeviceSpec.model_fields)


def test_the_example_is_a_fleet_file_that_does_what_is_said(tmp_path):
    path = tmp_path / "my_fleet.toml"
    path.write_text(re.search(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1], encoding="utf-8")

    fleet = read_fleet(path, catalog=load_catalog())
    catalog = load_catalog().with_devices(fleet.devices)
    nova, notes = filled(catalog.find("nova-2"), catalog)
    assert (nova.bf16_tflops, nova.mem_bw_gb_per_s) == (200, load_catalog().find("h20").mem_bw_gb_per_s)
    assert "inferred from h20" in notes[0]
    assert catalog.find("H100").scale_out_gbit_per_s == 200
    assert catalog.find("H100").mem_gb == load_catalog().find("H100").mem_gb
