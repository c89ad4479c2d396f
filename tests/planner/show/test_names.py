"""What choices and their islands are called."""

from everyflop.planner.show.names import devices_line, kind_words, rows_of


def test_one_pool_in_several_islands_says_so_and_names_each(make_choice, make_island):
    halves = [make_island(f"a-{n}", devices=size, price=2, tokens_per_s=1e5, pool="a") for n, size in ((1, 8), (2, 16))]
    split = make_choice("2 x a", *halves).model_copy(update={"kind": "single"})

    assert kind_words(split) == "one pool, 2 islands"
    assert [name for name, _ in rows_of([split])] == ["a-1 in 2 x a", "a-2 in 2 x a"]


def test_one_island_is_single_and_several_pools_are_a_mix(plan):
    assert [kind_words(choice) for choice in plan.alternatives[:2]] == ["single", "mix"]


def test_unequal_islands_are_listed_and_equal_ones_counted(make_island):
    half = make_island("a", devices=8, price=2, tokens_per_s=1e5, share=0.4)
    rest = make_island("b", devices=4, price=2, tokens_per_s=5e4, share=0.2)

    assert (
        devices_line([half, rest, half]) == "2 islands of 8 x Maker A (40 % each) and 4 x Maker B (20 % of the tokens)"
    )
