import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.doubts import doubts
from everyflop.planner.predict.predictor import load_predictor
from everyflop.spec.measured import MeasuredSpeed


def told(share: float | None, device: str = "h100-sxm") -> list[tuple[str, str]]:
    speed = MeasuredSpeed(
        device=device,
        date="2026-11-25",
        source="a test",
        model="ling-lite",
        seq_len=1024,
        batch_tokens=1024,
        tokens_per_s_per_device=100.0,
        others_share=share,
    )
    return list(doubts([speed], load_catalog()))


@pytest.mark.parametrize("share", [None, 0.0, 0.09])
def test_a_calm_measurement_is_not_doubted(share):
    assert told(share) == []


def test_a_disturbed_measurement_is_doubted_under_the_devices_own_name():
    expected = "h100-sxm: its measured speed is doubtful, others used 67 % of the processor meanwhile."

    assert told(0.67, device="H100") == [("h100-sxm", expected)]


def test_a_speed_in_fp32_says_nothing_of_a_device_that_is_planned_with_in_bf16():
    speed = MeasuredSpeed(
        device="h100-sxm",
        date="2026-11-25",
        source="a test",
        model="ling-lite",
        seq_len=1024,
        batch_tokens=1024,
        precision="fp32",
        tokens_per_s_per_device=100.0,
    )

    assert [name for name, _ in doubts([speed], load_catalog())] == ["h100-sxm"]
    predictor = load_predictor()
    assert predictor.with_measured([speed], load_catalog()) is predictor
