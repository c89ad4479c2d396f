"""The data that come with the package: whole, sourced, sensible, and what published tables say."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.catalog.catalog import spelling, spellings
from everyflop.catalog.load import load_catalog
from everyflop.spec.device import DeviceSpec, PriceQuote

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT.parent / "shared" / "facts" / "measurements_dev.csv"

CATALOG = load_catalog()
DEVICES = list(CATALOG.devices.values())

NO_DEVICE = {"lower-spec mix (Table 1 A/B/C/E)"}
"""A row of the measurements on several devices, of which it is not known."""


def names(devices: list[DeviceSpec]) -> list[str]:
    return [device.name for device in devices]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_every_device_has_a_title_a_vendor_a_source_and_a_confidence(device):
    assert device.title
    assert device.vendor
    assert device.source
    assert device.confidence in {"high", "medium", "low"}
    assert bool(device.achieved_source) == (device.achieved_bf16_tflops is not None)


@pytest.mark.parametrize("price", CATALOG.prices, ids=lambda price: f"{price.device} {price.date} {price.source[:12]}")
def test_every_price_has_a_known_device_a_day_a_currency_and_a_source(price: PriceQuote):
    assert price.device in CATALOG.devices
    assert re.fullmatch(r"20\d\d(-\d\d){0,2}", str(price.date))
    assert price.currency in {"USD", "CNY"}
    assert price.source
    assert (price.low or 0) <= price.per_device_hour <= (price.high or price.per_device_hour)


def test_no_spelling_means_two_devices():
    owners: dict[str, set[str]] = {}
    for device in DEVICES:
        for text in spellings(device):
            owners.setdefault(text, set()).add(device.name)

    assert {text: found for text, found in owners.items() if len(found) > 1} == {}


def test_every_accelerator_of_the_measurements_is_known():
    if not MEASUREMENTS.exists():
        pytest.skip(f"{MEASUREMENTS} is not beside this checkout")
    with MEASUREMENTS.open(encoding="utf-8", newline="") as file:
        named = {row["accelerator"] for row in csv.DictReader(file)}

    assert {name for name in named - NO_DEVICE if name not in CATALOG} == set()


@pytest.mark.parametrize(
    ("usual", "name"),
    [
        ("H100", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("A100", "a100-80g"),
        ("NVIDIA A100-SXM4-40GB", "a100-40g"),
        ("A800", "a800"),
        ("H20", "h20"),
        ("H200", "h200"),
        ("L40S", "l40s"),
        ("B300", "b300"),
        ("MI325X", "mi325x"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Gaudi2", "gaudi2"),
        ("Intel Gaudi 3", "gaudi3"),
        ("TPU-v5e", "tpu-v5e"),
        ("TPU v7x", "tpu-v7x"),
        ("Ironwood", "tpu-v7x"),
        ("Ascend-910B", "ascend-910b3"),
        ("Ascend 910B2", "ascend-910b2"),
        ("Iluvatar BI-V150", "iluvatar-bi-v150"),
        ("Trn2", "trainium2"),
    ],
)
def test_usual_names_are_understood(usual, name):
    assert CATALOG.find(usual).name == name


@given(st.sampled_from([text for d in DEVICES for text in (d.name, d.title, *d.aliases)]), st.randoms())
def test_no_case_and_no_spaces_dashes_or_underscores_matter(text, rng):
    letters = [rng.choice((letter.upper(), letter.lower())) for letter in spelling(text)]
    written = "".join(letter + rng.choice(("", "", "-", "_", " ")) for letter in letters)

    assert CATALOG.find(written) == CATALOG.find(text)


@pytest.mark.parametrize(
    ("name", "tflops", "mem_gb", "cny_per_hour", "like"),
    [  # arXiv 2503.05139, Table 1; what the devices are like is inferred
        ("ling-a", 370, 64, 7, "ascend-910b2"),
        ("ling-b", 120, 96, 4.5, "ppu-810e"),
        ("ling-c", 312, 80, 10, "a100-80g"),
        ("ling-d", 989, 80, 27.5, "h800"),
        ("ling-e", 147, 96, 5.64, "h20"),
    ],
)
def test_the_ling_devices_are_those_of_the_reports_table_and_nothing_more(name, tflops, mem_gb, cny_per_hour, like):
    device = CATALOG.find(name)
    prices = CATALOG.quotes(name)

    assert (device.bf16_tflops, device.mem_gb, device.like) == (tflops, mem_gb, like)
    assert (
        device.fp8_tflops is device.mem_bw_gb_per_s is device.scale_up_gb_per_s is device.scale_out_gbit_per_s is None
    )
    assert [(price.per_device_hour, price.currency) for price in prices] == [(cny_per_hour, "CNY")]
    assert "inferred" in device.notes or "authors" in device.notes


@pytest.mark.parametrize(
    ("name", "bf16", "fp8", "mem_gb", "mem_bw", "scale_up", "domain", "scale_out"),
    [  # docs.cloud.google.com/tpu/docs/tpu7x, the table that compares three generations
        ("tpu-v5p", 459, 459, 95, 2765, 1200, 8960, 50),
        ("tpu-v6e", 918, 918, 32, 1638, 800, 256, 100),
        ("tpu-v7x", 2307, 4614, 192, 7380, 1200, 9216, 100),
    ],
)
def test_tpu_figures_are_those_of_googles_table(name, bf16, fp8, mem_gb, mem_bw, scale_up, domain, scale_out):
    device = CATALOG.find(name)

    assert (device.bf16_tflops, device.fp8_tflops, device.mem_gb, device.mem_bw_gb_per_s) == (bf16, fp8, mem_gb, mem_bw)
    assert (device.scale_up_gb_per_s, device.scale_up_domain, device.scale_out_gbit_per_s) == (
        scale_up,
        domain,
        scale_out,
    )


def test_fp8_is_never_slower_than_bf16():
    assert names([d for d in DEVICES if d.fp8_tflops and d.bf16_tflops and d.fp8_tflops < d.bf16_tflops]) == []


def test_nothing_measured_lies_above_its_peak_but_one_card_whose_peak_is_doubtful():
    above = [d for d in DEVICES if d.achieved_bf16_tflops and d.achieved_bf16_tflops > (d.bf16_tflops or 0)]

    assert names(above) == ["iluvatar-bi-v150"]
    assert "above the peak" in above[0].notes


def test_links_inside_a_domain_are_faster_than_the_network_and_slower_than_memory():
    linked = [d for d in DEVICES if d.scale_up_gb_per_s and d.scale_out_gbit_per_s]
    one_way_gbit = {d.name: 8 * (d.scale_up_gb_per_s or 0) / 2 for d in linked}

    assert names([d for d in linked if one_way_gbit[d.name] < (d.scale_out_gbit_per_s or 0)]) == []
    assert names([d for d in linked if (d.scale_up_gb_per_s or 0) >= (d.mem_bw_gb_per_s or 1e9)]) == []


def test_units_are_not_mixed_up():
    rough = {
        "bf16_tflops": (20, 3000),
        "mem_gb": (16, 300),
        "mem_bw_gb_per_s": (600, 8000),
        "scale_up_gb_per_s": (60, 1800),
        "scale_out_gbit_per_s": (25, 800),
        "tdp_w": (150, 1400),
    }
    values = {(d.name, key): getattr(d, key) for d in DEVICES for key in rough if getattr(d, key) is not None}

    assert {at: value for at, value in values.items() if not rough[at[1]][0] <= value <= rough[at[1]][1]} == {}


def test_only_the_catalogue_and_the_command_that_shows_it_know_quotes():
    users = {
        path.relative_to(ROOT / "src" / "everyflop").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"\bPriceQuote\b|\.quotes\(", path.read_text(encoding="utf-8"))
    }

    assert users == {"spec/device.py", "catalog/catalog.py", "catalog/load.py", "cli/catalog.py"}


def test_the_catalogue_loads_without_anything_heavy():
    code = "import everyflop.catalog.load as load, sys; load.load_catalog(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"torch", "numpy", "scipy", "matplotlib", "rich"}.isdisjoint(loaded)
