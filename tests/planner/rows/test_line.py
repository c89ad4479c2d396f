"""One line of a table: what it says, and what is assumed and noted where it says nothing."""

import pytest

from everyflop.catalog.load import load_catalog
from everyflop.planner.rows.cells import NUMBERS
from everyflop.planner.rows.line import Line
from everyflop.spec.device import DeviceSpec

FULL = {
    **dict.fromkeys(NUMBERS, ""),
    **{"model": "Mixtral-8x7B", "kind": "moe", "accelerator": "H100", "n_devices": "64", "layers": "32"},
    **{"hidden": "4096", "ffn": "14336", "heads": "32", "kv_heads": "8", "experts": "8", "topk": "2"},
    **{"expert_ffn": "14336", "vocab": "32000", "seq_len": "4096", "global_batch_seqs": "256"},
    **{"total_params_b": "46.7", "active_params_b": "12.9", "tp": "1", "pp": "4", "vpp": "8", "ep": "8", "dp": "16"},
    **{
        "micro_batch": "1",
        "sharding": "zero1",
        "recompute": "none",
        "dtype": "bf16",
        "notes": "balanced",
        "software": "Megatron-Core",
    },
}


def read(**cells: str) -> Line:
    line = Line({**FULL, **cells}, load_catalog())
    line.layouts()
    return line


def layout(**cells: str) -> dict[str, float]:
    return read(**cells).layouts()[0][1]


def test_a_line_that_says_all_needs_no_assumption():
    assert read().notes == ["model: head 128, gated MLP, 0 dense layers"]


@pytest.mark.parametrize(
    ("column", "note"),
    [
        ("seq_len", "seq_len unknown, 4096 assumed"),
        ("n_devices", "n_devices unknown, 64 assumed"),
        ("dtype", "dtype unknown, bf16 assumed"),
        ("tp", "tp unknown, 1 assumed"),
        ("sharding", "sharding unknown, zero1 assumed"),
        ("global_batch_seqs", "global_batch_seqs unknown, 8 for each stage of a replica assumed"),
        ("micro_batch", "micro-batch unknown"),
        ("vpp", "virtual stages unknown"),
        ("recompute", "recompute unknown"),
        ("heads", "heads unknown, 32 assumed"),
        ("topk", "topk unknown, 8 assumed"),
        ("notes", "real routing assumed"),
    ],
)
def test_a_blank_is_noted(column, note):
    assert note in read(**{column: ""}).notes


def test_replicas_are_what_the_other_degrees_leave():
    assert layout(dp="")["dp"] == 64 / 4


def test_a_layout_that_is_not_all_devices_is_noted():
    read_again = read(dp="8")

    assert "its layout takes 32 devices, not 64: 16 replicas assumed" in read_again.notes
    assert read_again.layouts()[0][1]["dp"] == 16


def test_the_batch_has_eight_sequences_for_each_stage_of_each_replica():
    assert read(global_batch_seqs="").batch(16) == 8 * 4 * 16


@pytest.mark.parametrize(
    ("software", "ep", "etp"), [("Megatron-LM", "4", 2), ("Megatron-Bridge", "4", 1), ("Megatron-Bridge", "1", 2)]
)
def test_experts_are_divided_like_everything_else_by_megatron_lm_and_without_expert_parallelism(software, ep, etp):
    assert layout(software=software, tp="2", ep=ep, dp="8")["etp"] == etp


def test_one_pass_takes_the_whole_batch_of_a_device_with_xla():
    weighted = read(software="MaxText", micro_batch="", recompute="full").layouts()

    assert [(weight, degrees["micro_batch"]) for weight, degrees in weighted] == [(1.0, 256 / 16)]


def test_no_pass_is_larger_than_the_batch_of_a_replica():
    assert layout(micro_batch="64")["micro_batch"] == 16


def test_every_other_layer_of_gpt_oss_sees_128_tokens():
    dims = read(model="GPT-OSS-20B").dims

    assert (dims.window, dims.windowed_share) == (128, 0.5)


def test_models_known_for_latent_attention_have_its_weights_whatever_their_table_prints():
    latent = read(model="DeepSeek-V3", kv_heads="1").dims
    queries, keys_and_values, output = 4096 * 1536 + 1536 * 32 * 192, 4096 * 576 + 512 * 32 * 256, 32 * 128 * 4096

    assert (latent.qk_dim, latent.v_dim) == (192, 128)
    assert latent.attention_weights == queries + keys_and_values + output


def test_an_mtp_layer_is_one_layer_and_one_head_more():
    plain, mtp = (read(notes=notes).dims for notes in ("balanced", "balanced, MTP"))

    assert (mtp.n_layers, mtp.extra_heads) == (plain.n_layers + 1, 1)


@pytest.mark.parametrize("accelerator", ["Abacus 9000", "ppu-810e"])
def test_a_device_without_a_known_peak_has_the_median_of_the_catalogue(accelerator):
    peaks = sorted(d.bf16_tflops for d in load_catalog().devices.values() if d.bf16_tflops)
    line = read(accelerator=accelerator)

    assert line.chip.bf16_flops == peaks[len(peaks) // 2] * 1e12
    assert any("median" in note for note in line.notes)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("H100 NVL (94 GB)", "h100-sxm"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("v5p", "tpu-v5p"),
        ("TPU v6e-256", "tpu-v6e"),
    ],
)
def test_a_description_is_taken_for_the_device_that_it_names_and_noted(text, name):
    line = read(accelerator=text)

    assert line.tags.chip[0] == name
    assert f"accelerator '{text}' taken for {name}" in line.notes


def test_an_unknown_device_may_be_three_times_as_fast_or_slow():
    assert read(accelerator="Riddle 9000").log_sd == pytest.approx(1.0)
    assert read().log_sd == 0


def test_a_model_of_which_nothing_is_known_may_have_any_size():
    blank = dict.fromkeys(("layers", "hidden", "total_params_b", "active_params_b"), "")

    assert read(**blank).log_sd == pytest.approx(1.5)


def test_fp8_on_a_device_that_has_none_is_noted():
    assert "a100-80g has no known fp8 speed: computed in bf16" in read(accelerator="A100", dtype="fp8").notes


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ({"ep": "1024"}, "ep above 8 experts"),
        ({"pp": "64"}, "pp above 32 layers"),
        ({"vpp": "16"}, "pp above 32 layers"),
        ({"tp": "64"}, "tp above 32 heads"),
        ({"topk": "9"}, "topk above experts"),
        ({"kv_heads": "64"}, "kv_heads above heads"),
        ({"n_devices": "2"}, "tp, pp and cp above n_devices"),
        ({"kind": "dense", "experts": "0"}, "ep without experts"),
        ({"micro_batch": "32"}, "micro_batch above the batch of a replica"),
    ],
)
def test_what_no_run_can_be_is_noted(cells, what):
    assert any(note.startswith("impossible as written") and what in note for note in read(**cells).notes)


def test_a_device_of_the_users_is_found_in_the_catalogue_that_has_it():
    catalog = load_catalog().with_devices([DeviceSpec(name="nova", vendor="Acme", bf16_tflops=123.0)])

    assert Line({**FULL, "accelerator": "Nova"}, catalog).chip.bf16_flops == 123e12
