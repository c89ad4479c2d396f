"""Gaps are filled from a device that another is said to be like, never from anywhere else."""

import pytest

from everyflop.base.errors import UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.catalog.fill import FIGURES, OPTIONAL, filled
from everyflop.catalog.load import load_catalog
from everyflop.spec.device import DeviceSpec

WHOLE = DeviceSpec(
    name="whole",
    vendor="Acme",
    architecture="A1",
    bf16_tflops=300,
    mem_gb=80,
    mem_bw_gb_per_s=2000,
    scale_up_link="FastLink",
    scale_up_gb_per_s=600,
    scale_up_domain=8,
    scale_out_gbit_per_s=200,
    tdp_w=400,
    achieved_bf16_tflops=250,
    achieved_source="somebody",
    torch_device="npu",
)


def fill(**fields: object) -> tuple[DeviceSpec, tuple[str, ...]]:
    device = DeviceSpec.model_validate({"name": "x", "vendor": "Me", **fields})
    return filled(device, Catalog({"whole": WHOLE, "x": device}))


def test_a_whole_device_stays_as_it_is_without_a_word():
    assert filled(WHOLE, Catalog({})) == (WHOLE, ())


def test_what_is_missing_is_taken_from_the_like_device_and_named():
    device, notes = fill(like="whole", bf16_tflops=370, mem_gb=64)

    assert (device.bf16_tflops, device.mem_gb) == (370, 64)
    assert (device.architecture, device.mem_bw_gb_per_s, device.scale_up_gb_per_s) == ("A1", 2000, 600)
    assert (device.scale_up_domain, device.scale_out_gbit_per_s) == (8, 200)
    assert (device.scale_up_link, device.torch_device, device.tdp_w) == ("FastLink", "npu", 400)
    assert (device.name, device.vendor) == ("x", "Me")
    assert notes == (
        "x: inferred from whole, which it is said to be like: architecture, memory bandwidth, links inside a domain, "
        "size of a domain, network, power",
    )


def test_a_measured_matmul_is_taken_with_the_peak_that_it_belongs_to():
    device, notes = fill(like="whole")

    assert (device.achieved_bf16_tflops, device.achieved_source) == (250, "somebody")
    assert notes[0].endswith("network, power, measured matmul")


@pytest.mark.parametrize(("peak", "achieved"), [(295, 250), (305, 250), (292, None), (310, None)])
def test_a_measured_matmul_holds_where_the_peaks_agree_within_two_percent(peak, achieved):
    assert fill(like="whole", bf16_tflops=peak)[0].achieved_bf16_tflops == achieved


def test_a_matmul_of_its_own_is_kept():
    device, _ = fill(like="whole", achieved_bf16_tflops=200, achieved_source="me")

    assert (device.bf16_tflops, device.achieved_bf16_tflops, device.achieved_source) == (300, 200, "me")


def test_without_a_like_device_nothing_is_filled_and_what_is_missing_is_named():
    device, notes = fill(bf16_tflops=370, mem_gb=64, scale_up_domain=8)

    assert device == DeviceSpec(name="x", vendor="Me", bf16_tflops=370, mem_gb=64, scale_up_domain=8)
    assert notes == ("x: not known: architecture, memory bandwidth, links inside a domain, network",)


def test_a_missing_fp8_peak_is_no_gap():
    assert not any("fp8" in note for note in fill()[1])


def test_likeness_goes_on_from_device_to_device():
    step = DeviceSpec(name="step", vendor="Acme", like="whole", mem_gb=96)
    device, notes = filled(DeviceSpec(name="x", vendor="Me", like="step"), Catalog({"whole": WHOLE, "step": step}))

    assert (device.mem_gb, device.bf16_tflops) == (96, 300)
    assert [note.split(",")[0] for note in notes] == ["x: inferred from step", "x: inferred from whole"]


def test_devices_that_are_like_each_other_end_the_search():
    one = DeviceSpec(name="one", vendor="Me", like="two")
    two = DeviceSpec(name="two", vendor="Me", like="one", mem_gb=64)

    assert filled(one, Catalog({"one": one, "two": two}))[0].mem_gb == 64


def test_an_unknown_like_device_is_refused():
    with pytest.raises(UsageError, match="no device 'wole': did you mean whole"):
        fill(like="wole")


@pytest.mark.parametrize("name", ["ling-a", "ling-c", "ling-d", "ling-e"])
def test_four_of_the_ling_devices_are_whole_once_filled(name):
    device, notes = filled(load_catalog().find(name), load_catalog())

    assert all(getattr(device, key) for key in FIGURES if key not in OPTIONAL)
    assert len(notes) == 1


def test_of_the_fifth_ling_device_the_memory_bandwidth_and_the_network_stay_unknown():
    _, notes = filled(load_catalog().find("ling-b"), load_catalog())

    assert notes[-1] == "ling-b: not known: memory bandwidth, network"


def test_a_cpu_has_no_figures_until_it_is_measured():
    _, notes = filled(load_catalog().find("cpu"), load_catalog())

    assert notes == (
        "cpu: not known: bf16 peak, memory, memory bandwidth, links inside a domain, size of a domain, network",
    )
