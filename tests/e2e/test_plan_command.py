"""The whole way on one machine: measure it, plan on it, train from the unedited plan, compare."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everyflop.backend.rates import memory_bytes_per_s
from everyflop.base.files import read_lines
from everyflop.spec.plan import Plan
from everyflop.spec.plan_file import read_plan

LAPTOP = Path(__file__).resolve().parents[2] / "recipes" / "fleets" / "laptop.toml"
PRICE_PER_S = 0.05 / 3600
"""Of laptop.toml, in USD."""


@dataclass(frozen=True)
class Way:
    """What the three commands left."""

    plan_file: Path
    run_dir: Path
    plan_out: str
    train_out: str

    @property
    def plan(self) -> Plan:
        return read_plan(self.plan_file)

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_dir / "summary.json").read_text())


@pytest.fixture(scope="module")
def way(everyflop, write_run_file, tmp_path_factory) -> Way:
    folder = tmp_path_factory.mktemp("way")
    run_file = write_run_file(folder)
    measured, plan_file = folder / "measured.toml", folder / "plan.json"
    little = functools.partial(memory_bytes_per_s, mib=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("everyflop.train.measure.memory_bytes_per_s", little)  # by default 1 GiB
        commands = [
            ("measure", "--run", run_file, "--device", "cpu", "--seconds", "0", "--out", measured),
            ("plan", LAPTOP, "--model", run_file, "--measured", measured, "--out", plan_file),
            ("train", run_file, "--plan", plan_file),
        ]
        ended = [everyflop(*command) for command in commands]

    assert [(one.code, one.err) for one in ended if one.code] == []
    return Way(plan_file, folder / "runs" / "tiny", ended[1].out, ended[2].out)


def test_the_plan_is_for_the_run_and_the_machine(way):
    plan, (island,) = way.plan, way.plan.islands

    assert (plan.workload.tokens, plan.workload.seq_len, plan.workload.batch_tokens) == (3072, 32, 256)
    assert plan.workload.model.vocab_size == 320
    assert (island.device, island.torch_device, island.devices, island.batch_seqs) == ("cpu", "cpu", 1, 8)
    assert (island.price_per_device_hour, plan.currency, island.example_price) == (0.05, "USD", True)


def test_the_predicted_cost_is_the_time_of_the_tokens_at_the_price(way):
    plan, (island,) = way.plan, way.plan.islands
    seconds = 3072 / (island.tokens_per_s.p50 * island.goodput_share)

    assert plan.total.cost.p50 == pytest.approx(seconds * PRICE_PER_S, rel=0.01)


def test_the_plan_is_run_as_it_is(way):
    assert (way.run_dir / "plan.json").read_bytes() == way.plan_file.read_bytes()
    assert {line["step"] for line in read_lines(way.run_dir / "metrics.jsonl")} == set(range(1, 13))
    assert way.summary["tokens"] == way.plan.workload.tokens


def test_predicted_and_measured_stand_side_by_side(way):
    (island,), summary = way.plan.islands, way.summary
    speed, cost = summary["plan"]["tokens_per_s"], summary["plan"]["cost"]

    assert speed["predicted"] == island.tokens_per_s.model_dump()
    assert cost["predicted"] == way.plan.total.cost.model_dump()
    assert speed["ratio"] == pytest.approx(speed["measured"] / island.tokens_per_s.p50)
    assert cost["measured"] == pytest.approx(summary["seconds"] * PRICE_PER_S)
    assert cost["ratio"] == pytest.approx(cost["measured"] / way.plan.total.cost.p50)
    assert "Against the plan" in way.train_out


def test_the_plan_says_how_to_launch_it(way):
    assert "everyflop train" in way.plan.launch
    assert str(way.plan_file) in way.plan.launch
    assert "everyflop train" in way.plan_out
