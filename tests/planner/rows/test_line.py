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
    **{"micro_batch": "1", "sharding": "zero1", "recompute": "none", "dtype": "bf16", "notes": "balanced"},
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
    assert "its layout takes 32 devices, not 64" in read(dp="8").notes


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


def test_a_device_of_the_users_is_found_in_the_catalogue_that_has_it():
    catalog = load_catalog().with_devices([DeviceSpec(name="nova", vendor="Acme", bf16_tflops=123.0)])

    assert Line({**FULL, "accelerator": "Nova"}, catalog).chip.bf16_flops == 123e12
