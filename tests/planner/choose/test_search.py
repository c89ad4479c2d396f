"""The short search against trying every layout, and what it promises of its results."""

import numpy as np
import pytest

from everyflop.accounting.dims import dims_of
from everyflop.catalog.load import load_catalog
from everyflop.planner.choose.layouts import degrees, variants
from everyflop.planner.choose.search import Search, Training
from everyflop.planner.choose.supply import PARTS
from everyflop.planner.predict.predict import Hardware, predict
from everyflop.planner.predict.predictor import load_predictor
from everyflop.spec.presets import preset


def training(model: str, **changes: int) -> Training:
    return Training(dims_of(preset(model).model_copy(update=changes)), 4096, "bf16", load_predictor())


def hardware(device: str, node: int = 8) -> Hardware:
    return Hardware(load_catalog().find(device), node, 400.0)


def search(model: str, device: str, counts: list[int], batch_seqs: int) -> Search:
    made = Search(training(model), hardware(device))
    made.prepare(counts, batches=(batch_seqs, batch_seqs // 4))
    return made


def best_of_all(model: str, device: str, devices: int, batch_seqs: int, **changes: int) -> float:
    """Return tokens/s of the best of every layout there is."""
    known, on = training(model, **changes), hardware(device)
    every = degrees(known.dims, devices=devices, domain=8, seq_len=4096, batch_seqs=batch_seqs)
    every = variants(every, known.dims, batch_seqs=batch_seqs)
    at_once = every.dp * every.micro_batch
    padded = -(-batch_seqs // at_once) * at_once
    made = predict(known.dims, on, every, seq_len=4096, batch_seqs=padded, predictor=known.predictor)
    divides = batch_seqs % every.micro_batch == 0
    return float(np.where(made.fits & divides, made.tokens_per_s * batch_seqs / padded, 0.0).max())


@pytest.mark.parametrize("devices", [64, 500])
def test_the_search_loses_little_against_every_layout(devices):
    cases = [(m, d) for m in ("ling-lite", "ling-plus", "mixtral-8x7b") for d in ("h800", "mi300x", "ling-a")]

    lost = []
    for model, device in cases:
        found = search(model, device, [devices], 1024).best([(devices, 1024)])[0]
        best = best_of_all(model, device, devices, 1024)
        assert (found is None) == (best == 0)
        lost += [1 - found.tokens_per_s / best] if found else []

    assert np.mean(lost) < 0.01
    assert max(lost) < 0.06


@pytest.mark.parametrize("part", PARTS)
def test_an_island_with_a_part_of_a_small_batch_has_the_best_layout_for_that_part(part):
    small = {"n_layers": 2, "n_experts": 8}
    made = Search(training("ling-lite", **small), hardware("mi300x"))
    made.prepare([1], batches=[16 // each for each in PARTS])
    (found,) = made.best([(1, 16 // part)])

    assert found
    assert found.tokens_per_s == pytest.approx(best_of_all("ling-lite", "mi300x", 1, 16 // part, **small))


def test_what_is_found_fits_the_memory():
    found = search("ling-plus", "h800", [512], 1024).best([(512, 1024)])[0]

    assert found
    assert sum(found.mem_gib.values()) <= found.mem_limit_gib


def test_where_nothing_fits_the_least_memory_is_known():
    looked = search("ling-1t", "h800", [64], 1024)

    assert looked.best([(64, 1024)]) == [None]
    assert looked.least_gib[64] > looked.limit_gib


def test_a_micro_batch_divides_the_batch():
    found = search("ling-lite", "h800", [64], 1023).best([(64, 1023)])[0]

    assert found
    assert 1023 % found.layout.micro_batch == 0


def test_ranks_without_a_last_micro_batch_wait():
    # 65 sequences on 64 ranks take as long as 128.
    looked = search("ling-lite", "h800", [64], 128)

    few, many = looked.best([(64, 65), (64, 128)])
    assert few
    assert many
    assert few.tokens_per_s < 0.8 * many.tokens_per_s


def test_searching_again_finds_the_same():
    first, second = (search("ling-lite", "mi300x", [64, 128], 512).best([(128, 512)])[0] for _ in range(2))

    assert first
    assert second
    assert (first.layout, first.tokens_per_s) == (second.layout, second.tokens_per_s)


def test_chunks_of_layers_are_for_batches_with_a_micro_batch_for_each_stage():
    made = Search(training("ling-plus"), hardware("h800"))
    dims = made.training.dims
    every = degrees(dims, devices=512, domain=8, seq_len=4096, batch_seqs=4096)
    every = variants(every, dims, batch_seqs=4096)
    chunked = every.take((every.vpp > 1) & (every.dp * every.micro_batch <= 256))

    speed, _, _ = made._predict(chunked, np.full(len(chunked), 256))
    n_micro = np.ceil(256 / (chunked.dp * chunked.micro_batch))
    assert (speed[n_micro < chunked.pp] == 0).all()
    assert (n_micro < chunked.pp).any()
    assert (speed[n_micro >= chunked.pp] > 0).any()
