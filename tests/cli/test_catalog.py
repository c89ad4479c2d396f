"""`everyflop catalog`: what it prints for people, and for scripts."""

import json
import re


def rows(out: str, label: str) -> list[str]:
    """Return what stands beside a label of `catalog show`."""
    return [match[1].strip() for match in re.finditer(rf"^ {re.escape(label)} {{2,}}(.*)$", out, re.MULTILINE)]


def test_list_shows_peaks_memory_links_and_dated_quotes(everyflop):
    out = everyflop("catalog", "list").out
    row = next(line for line in out.splitlines() if "h200" in line)

    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:8] == ["h200", "NVIDIA H200 SXM 141GB", "989.5", "1979", "141", "4800", "NVLink 4 900 x8", "400"]
    assert re.match(r"3\.99 to 6\.3[01] USD,", cells[8])
    assert "Quotes are shown and never used" in out


def test_list_shows_devices_of_one_vendor(everyflop):
    out = everyflop("catalog", "list", "--vendor", "amd").out

    assert "mi300x" in out
    assert "h100" not in out


def test_an_unknown_vendor_is_refused_with_the_nearest(everyflop):
    ended = everyflop("catalog", "list", "--vendor", "nvdia")

    assert ended.code == 2
    assert "did you mean NVIDIA?" in ended.err


def test_show_gives_figures_with_units_sources_and_quotes(everyflop):
    out = everyflop("catalog", "show", "H100").out

    assert out.startswith("NVIDIA H100 SXM5 80GB")
    assert rows(out, "name") == ["h100-sxm"]
    assert rows(out, "peak, bf16") == ["989.5 TFLOP/s, dense"]
    assert rows(out, "memory bandwidth") == ["3,350 GB/s"]
    assert rows(out, "network") == ["400 Gbit/s a device, one direction"]
    assert "ml-engineering" in rows(out, "source")[0]
    assert "3.99 USD on 2026-09-20, lambda.ai/instances; on demand, 8 GPUs" in rows(out, "asked for an hour")


def test_show_says_what_is_not_published(everyflop):
    out = everyflop("catalog", "show", "ppu-810e").out

    assert rows(out, "peak, bf16") == ["not published"]
    assert rows(out, "gaps") == ["ppu-810e: not known: bf16 peak, memory bandwidth, network"]


def test_show_tells_inferred_figures_from_published_ones(everyflop):
    out = everyflop("catalog", "show", "ling-a").out

    assert rows(out, "peak, bf16") == ["370 TFLOP/s, dense"]
    assert rows(out, "memory bandwidth") == ["not published; 1,600 GB/s, inferred (see gaps)"]
    assert "inferred from ascend-910b2" in rows(out, "gaps")[0]


def test_an_unknown_device_is_refused_with_the_nearest(everyflop):
    ended = everyflop("catalog", "show", "h1000")

    assert ended.code == 2
    assert "did you mean h100-sxm" in ended.err


def test_json_of_a_device_has_its_fields_gaps_and_quotes(everyflop):
    device = json.loads(everyflop("catalog", "show", "ling-d", "--json").out)

    assert (device["name"], device["bf16_tflops"], device["mem_bw_gb_per_s"]) == ("ling-d", 989, None)
    assert device["inferred"]["mem_bw_gb_per_s"] == 3350
    assert "bf16_tflops" not in device["inferred"]
    assert [quote["per_device_hour"] for quote in device["quotes"]] == [27.5]


def test_json_of_the_list_has_every_device_once(everyflop):
    devices = json.loads(everyflop("catalog", "list", "--json").out)

    assert len({device["name"] for device in devices}) == len(devices) > 60
