import pytest

from everyflop.base.errors import InvalidFile
from everyflop.catalog.load import load_catalog
from everyflop.planner.predict.impossible import refuse_impossible
from everyflop.spec.device import DeviceSpec
from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.measured_file import Measurements, write_measured
from everyflop.spec.presets import preset

CATALOG = load_catalog()


def speed(tokens_per_s: float, device: str = "h100-sxm", **changes) -> MeasuredSpeed:
    """Return a speed of Ling-Lite, whose training takes 16 to 18 GFLOPs a token."""
    fields = {"date": "2026-11-25", "source": "a test", "model": preset("ling-lite"), "seq_len": 1024, **changes}
    return MeasuredSpeed(device=device, batch_tokens=4096, tokens_per_s_per_device=tokens_per_s, **fields)


def refuse(*speeds: MeasuredSpeed, devices: tuple[DeviceSpec, ...] = ()) -> None:
    refuse_impossible("measured.toml", Measurements(device=devices, measured=speeds), CATALOG)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_speed_above_the_peak_is_refused_with_the_most_that_is_possible(precision):
    refuse(speed(50_000, precision=precision))  # 50,000 x 17e9 = 850e12 of 989e12

    with pytest.raises(
        InvalidFile,
        match=r"measured\[0\]\.tokens_per_s_per_device.*h100-sxm can do at most 989.*tokens/s of this model",
    ):
        refuse(speed(70_000, precision=precision))


def test_fp8_has_a_peak_of_its_own():
    refuse(speed(70_000, precision="fp8"))  # of 1979e12

    with pytest.raises(InvalidFile, match="at most 1,979 TFLOP"):
        refuse(speed(140_000, precision="fp8"))


def test_every_such_speed_is_named():
    with pytest.raises(InvalidFile) as refused:
        refuse(speed(1e12), speed(100), speed(1e12, device="a100-sxm-80gb"))

    assert [problem.key.split(".")[0] for problem in refused.value.problems] == ["measured[0]", "measured[2]"]


def test_without_a_peak_ten_times_the_best_matmul_is_the_most():
    own = DeviceSpec(name="own", vendor="me", achieved_bf16_tflops=1.0)
    refuse(speed(500, device="own"), devices=(own,))  # 8.5e12 of 10e12

    with pytest.raises(InvalidFile, match="own can do at most 10 TFLOP/s"):
        refuse(speed(700, device="own"), devices=(own,))


def test_where_nothing_is_known_of_a_device_every_speed_is_taken():
    refuse(speed(1e12, device="own"), devices=(DeviceSpec(name="own", vendor="me"),))


def test_the_line_is_named(tmp_path):
    file, found = tmp_path / "measured.toml", Measurements(measured=(speed(1e12),))
    write_measured(file, found)

    with pytest.raises(InvalidFile) as refused:
        refuse_impossible(file, found, CATALOG)

    line = refused.value.problems[0].line or 0
    assert file.read_text().splitlines()[line - 1].startswith("tokens_per_s_per_device")
