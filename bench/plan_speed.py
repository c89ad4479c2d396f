"""Time a full plan for Ling-1T over growing fleets, pools of 5,000 devices and 20 pools that grow, and `predict`.

Prints one JSON line. A plan has everything that `everyflop plan` shows: all pools alone, mixes of up to four islands,
the front, what-ifs and measurements. Every pool offers a range of devices, which is the harder case, and is linked to
every other.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import time
from itertools import combinations, product
from pathlib import Path

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.base.errors import ExpectedNo
from everyflop.catalog.load import load_catalog
from everyflop.planner.plan.plan import plan
from everyflop.planner.predict.predict import Hardware, predict
from everyflop.spec.fleet import Fleet
from everyflop.spec.layout import Layout
from everyflop.spec.presets import preset

DEVICES = (
    *("h100-sxm", "h800", "h200", "b200", "a100-80g", "h20", "mi300x", "ascend-910b2", "l40s", "mi325x"),
    *("gb200", "a100-40g", "ling-a", "ling-b", "ling-c", "ling-d", "ling-e", "a800", "mi355x", "gaudi3"),
)
POOLS = (1, 5, 10, 20)
DEVICES_PER_POOL = (512, 5_000, 50_000)
REPEATS = 3
DEADLINE_DAYS = 90
"""So that pools alone and mixes are held against a limit, which takes longest."""


def fleet(pools: int, devices: int) -> Fleet:
    """Return pools of unlike devices with example prices that follow their peaks, all linked."""
    catalog = load_catalog()
    offered = [
        {
            "name": name,
            "device": name,
            "count": [devices // 10, devices],
            "price_per_device_hour": (catalog.find(name).bf16_tflops or 300) / 200 * (1 + 0.07 * (place * 7 % 10)),
            "example": True,
            "scale_out_gbit_per_s": 400,
            "failures_per_device_day": 0.0003,
        }
        for place, name in enumerate(DEVICES[:pools])
    ]
    links = [
        {"between": pair, "gbit_per_s": 100 + 50 * (number % 5)}
        for number, pair in enumerate(combinations(DEVICES[:pools], 2))
    ]
    return Fleet.model_validate({"name": "bench", "money": {"currency": "USD"}, "pool": offered, "link": links})


def seconds(pools: int, devices: int) -> list[float]:
    """Return the processor time of a plan, with and without a deadline, the longer of the two each time."""
    offered = fleet(pools, devices)
    times = []
    for _ in range(REPEATS):
        longest = 0.0
        for limits in ({}, {"deadline_days": DEADLINE_DAYS * 50_000 / (pools * devices)}):
            started = time.process_time()  # of this process alone, whatever else the machine does
            with contextlib.suppress(ExpectedNo):  # it has looked everywhere then, also beyond the limit
                plan(offered, model="ling-1t", tokens=20 * 10**12, **limits)
            longest = max(longest, time.process_time() - started)
        times.append(round(longest, 3))
    return times


def layouts_per_s() -> list[float]:
    """Return how many unlike layouts of Ling-1T `predict` answers for in a second of processor time, at once."""
    names = ("tp", "pp", "ep", "dp", "recompute", "micro_batch")
    degrees = product(
        (1, 2, 4, 8), (1, 2, 4, 8, 16), (8, 16), (16, 32, 64), ("none", "selective", "full"), range(1, 31)
    )
    layouts = Layouts.of([Layout(**dict(zip(names, values, strict=True))) for values in degrees])
    hardware = Hardware(load_catalog().find("h100-sxm"), 8, 400.0)
    rates = []
    for _ in range(REPEATS):
        started = time.process_time()
        predict(dims_of(preset("ling-1t")), hardware, layouts, seq_len=4096, batch_seqs=18_144)
        rates.append(round(len(layouts) / (time.process_time() - started)))
    return rates


def main() -> None:
    plan(fleet(1, 512), model="ling-lite", tokens=10**12)  # reads the catalogue and the measurements
    by_pools = {pools: seconds(pools, 5_000) for pools in POOLS}
    by_devices = {devices: seconds(20, devices) for devices in DEVICES_PER_POOL}
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    line = {
        "what": "processor seconds of a full plan for ling-1t, the longer of with and without a deadline",
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cores_used": os.environ.get("OMP_NUM_THREADS", "all"),
        "seconds_by_pools_of_5000": by_pools,
        "seconds_by_devices_in_each_of_20_pools": by_devices,
        "predicted_layouts_per_s": layouts_per_s(),
        "median_for_20_pools_of_5000": statistics.median(by_pools[20]),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
