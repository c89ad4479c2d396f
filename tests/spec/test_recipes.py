from pathlib import Path

import pytest

from everyflop.spec.read import read_run

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_valid_run_whose_prices_say_that_they_are_examples(path):
    assert read_run(path).money.example


def test_islands_and_one_process_train_the_same_model_on_the_same_text():
    alone, islands = (read_run(RECIPES / f"{name}.toml") for name in ("tiny_cpu", "tiny_islands"))

    assert not alone.island
    assert len(islands.island) == 2
    assert (islands.model, islands.data, islands.router) == (alone.model, alone.data, alone.router)
    assert islands.train.seq_len == alone.train.seq_len
