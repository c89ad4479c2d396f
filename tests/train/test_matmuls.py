import pytest

from everyflop.train import matmuls
from everyflop.train.matmuls import measure_matmuls, model_shapes, square_shapes


def rates_of(monkeypatch, flops_per_s: float) -> list[tuple]:
    """Let every matmul run at one speed; return what is measured: (shape, type, seconds)."""
    measured: list[tuple] = []

    def rate(device, dtype, *, seconds, shape):
        measured.append((shape, str(dtype), seconds))
        return flops_per_s

    monkeypatch.setattr(matmuls, "matmul_flops_per_s", rate)
    return measured


def test_squares_grow():
    sizes = [rows for rows, inner, columns in square_shapes() if rows == inner == columns]

    assert sizes == sorted(sizes)
    assert len(sizes) == len(square_shapes())


def test_a_models_shapes_are_those_of_its_matrices(make_run):
    # Hidden 32; queries of 2 heads of 16 with a key and a value head: 64. Dense width 64, gate and up together 128.
    # An expert of width 16 gets half of the tokens: 2 of 4 are chosen. The vocabulary has 320 tokens.
    assert model_shapes(make_run().model, 100) == {
        (100, 32, 64): "attn.qkv",
        (100, 32, 32): "attn.out",
        (100, 32, 128): "ffn.gate_up",
        (100, 64, 32): "ffn.down",
        (100, 32, 4): "ffn.router",
        (50, 32, 32): "ffn.experts.gate_up",
        (50, 16, 32): "ffn.experts.down",
        (100, 16, 32): "ffn.shared.down",
        (100, 32, 320): "head",
    }


def test_a_head_that_is_tied_to_the_embedding_is_a_matmul_too(make_run):
    shapes = model_shapes(make_run(model={"tied_embeddings": True}).model, 100)

    assert shapes[100, 32, 320] == "embed"


def test_an_expert_that_hardly_gets_a_token_has_a_row_all_the_same(make_run):
    shapes = model_shapes(make_run(model={"n_experts": 64}).model, 4)

    assert (1, 16, 32) in shapes


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "torch.bfloat16"), ("fp32", "torch.float32")])
def test_each_shape_gets_an_equal_part_of_the_time_in_the_type_asked_for(
    monkeypatch, device, recorder, precision, dtype
):
    measured = rates_of(monkeypatch, 1e15)
    shapes = {(8, 8, 8): "small", (16, 16, 16): "large"}
    rates = measure_matmuls(shapes, precision, device, seconds=3.0, progress=recorder)

    assert measured == [((8, 8, 8), dtype, 1.5), ((16, 16, 16), dtype, 1.5)]
    assert [(rate.what, rate.shape, rate.precision, rate.flops_per_s) for rate in rates] == [
        ("small", (8, 8, 8), precision, 1e15),
        ("large", (16, 16, 16), precision, 1e15),
    ]


def test_a_shape_that_would_take_much_longer_than_its_part_is_left_out(monkeypatch, device, recorder):
    rates_of(monkeypatch, 2e9)
    # Three bursts of four matmuls of 2 x 1000 x 1000 x columns operations at 2 GFLOP/s: 12 s for 1000 columns, 24 s for
    # 2000. A part is 3 s, and four of them are the most.
    shapes = {(8, 8, 8): "tiny", (1000, 1000, 1000): "fits", (1000, 1000, 2000): "too large"}
    rates = measure_matmuls(shapes, "fp32", device, seconds=9.0, progress=recorder)

    assert [rate.what for rate in rates] == ["tiny", "fits"]
    assert recorder.shown == [["Matmuls in fp32", 3, "shapes", 3]]


def test_a_real_matmul_has_a_rate(device, recorder):
    (rate,) = measure_matmuls({(8, 4, 2): "own"}, "fp32", device, seconds=0.0, progress=recorder)

    assert rate.flops_per_s > 0
