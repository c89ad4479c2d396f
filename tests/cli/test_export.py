"""The commands `import` and `export`, one after the other."""

import pytest
import torch
import typer
from typer.testing import CliRunner

from everyflop.cli.export import export
from everyflop.cli.import_hf import import_hf
from everyflop.model.build import build_model
from everyflop.model.hf.load import load_hf
from everyflop.model.hf.save import save_hf
from everyflop.spec.model import ModelSpec

SPEC = ModelSpec(
    family="mixtral", vocab_size=30, hidden=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, n_experts=2,
    experts_per_token=1, expert_width=4,
)  # fmt: skip


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("import")(import_hf)
    app.command()(export)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def test_import_and_export_say_what_they_wrote_and_where(run, tmp_path):
    model = build_model(SPEC, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)
    save_hf(model, tmp_path / "hf")

    imported = run("import", tmp_path / "hf", tmp_path / "ckpt")
    exported = run("export", tmp_path / "ckpt", tmp_path / "again", "--dtype", "bf16")

    # embedding and head 2 x 30 x 8, attention 8 x (8 + 4 + 4) + 8 x 8, router 2 x 8, experts 2 x 3 x 8 x 4, norms 3 x 8
    assert 2 * 240 + 128 + 64 + 16 + 192 + 24 == 904
    assert f"mixtral: 904 parameters in 10 tensors, float32, written to {tmp_path}/ckpt" in imported.output
    assert f"mixtral: 904 parameters in 10 tensors, bfloat16, written to {tmp_path}/again" in exported.output
    assert load_hf(tmp_path / "again").get_parameter("norm.weight").dtype == torch.bfloat16


def test_import_and_export_show_on_stderr_how_far_they_are(run, tmp_path):
    model = build_model(SPEC, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)
    save_hf(model, tmp_path / "hf")

    imported = run("import", tmp_path / "hf", tmp_path / "ckpt")
    exported = run("export", tmp_path / "ckpt", tmp_path / "again")

    # Embedding, head, 3 norms, router; 4 of attention, which are 2 of ours; 3 for each of 2 experts, 2 stacks of ours.
    assert "Reading hf: 16 tensors" in imported.stderr
    assert "Writing: 10 tensors" in imported.stderr
    assert "Reading ckpt: 10 tensors" in exported.stderr
    assert "Writing: 16 tensors" in exported.stderr
