import tomllib
from datetime import date
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everyflop.spec.measured import MeasuredSpeed
from everyflop.spec.presets import preset, preset_names


def measured(**changes: Any) -> MeasuredSpeed:
    fields = {
        "device": "h100-sxm",
        "date": "2026-09-16",
        "source": "everyflop measure",
        "model": "ling-lite",
        "seq_len": 4096,
        "batch_tokens": 4096 * 64,
        "layout": {"dp": 8, "ep": 8, "sharding": "zero3", "recompute": "full", "micro_batch": 2},
        "tokens_per_s_per_device": 9000.5,
        **changes,
    }
    return MeasuredSpeed.model_validate(fields)


@pytest.mark.parametrize("model", ["ling-lite", {"preset": "ling-lite"}])
def test_a_model_can_be_named(model: Any):
    assert measured(model=model).model == preset("ling-lite")


def test_fields_beside_a_preset_win():
    assert measured(model={"preset": "ling-lite", "n_layers": 4}).model.n_layers == 4


def test_an_unknown_model_is_named_with_the_nearest():
    with pytest.raises(ValidationError, match="did you mean 'ling-lite'"):
        measured(model="ling-lit")


@pytest.mark.parametrize("day", [date(2026, 9, 16), "2026-09-16"])
def test_a_day_is_written_with_or_without_quotes(day: Any):
    assert measured(date=day).date == "2026-09-16"


@pytest.mark.parametrize("day", ["yesterday", "16.9.2026", "2026", 2026])
def test_a_day_is_a_day(day: Any):
    with pytest.raises(ValidationError, match="date"):
        measured(date=day)


def test_a_batch_must_be_one_that_this_layout_can_train():
    with pytest.raises(ValidationError, match=r"65536 is not a multiple of seq_len = 4096 x .* = 4 x layout.dp = 8"):
        measured(batch_tokens=4096 * 16, layout={"dp": 8, "micro_batch": 4})


def test_sequences_are_no_longer_than_the_model_takes():
    with pytest.raises(ValidationError, match=r"32768 exceeds model\.max_positions = 16384"):
        measured(seq_len=32768, batch_tokens=32768 * 16)


def test_tensor_parallelism_divides_the_heads():
    with pytest.raises(ValidationError, match=r"layout\.tp 3 does not divide model\.n_heads = 16"):
        measured(layout={"tp": 3, "dp": 1})


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"dp": 8, "pp": 32}, r"layout\.pp 32 stages exceed model\.n_layers = 28"),
        ({"dp": 128, "ep": 128}, r"layout\.ep 128 exceeds model\.n_experts = 64"),
    ],
)
def test_a_layout_fits_its_model(layout: dict[str, int], said: str):
    with pytest.raises(ValidationError, match=said):
        measured(layout=layout, batch_tokens=4096 * 128)


def test_no_step_takes_longer_than_a_day():
    with pytest.raises(ValidationError, match=r"take 3\.79 days"):
        measured(tokens_per_s_per_device=0.1)  # 262,144 tokens on 8 devices: 327,680 s


@given(
    name=st.sampled_from(preset_names()),
    speed=st.floats(1.0, 1e7),
    peak=st.none() | st.floats(0.1, 1e3),
    precision=st.sampled_from(["bf16", "fp8", "fp32"]),
    routing=st.sampled_from(["real", "balanced"]),
)
def test_an_entry_written_to_a_file_and_read_again_is_the_same(
    name: str, speed: float, peak: float | None, **others: Any
):
    entry = measured(model=name, tokens_per_s_per_device=speed, peak_mem_gib=peak, **others)

    text = tomli_w.dumps({"measured": [entry.to_tables()]})

    assert MeasuredSpeed.model_validate(tomllib.loads(text)["measured"][0]) == entry
