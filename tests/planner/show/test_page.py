import io
import re

import pytest
from rich.console import Console

from everyflop.planner.show.findings import gbit
from everyflop.planner.show.page import page
from everyflop.planner.show.page_tables import MOST_CHANGES
from everyflop.spec.plan import Limits, Plan, WhatIf


def printed(plan: Plan, width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(page(plan))
    return out.getvalue()


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next empty line."""
    return next(part for part in text.split("\n\n") if part.startswith(title))


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip("> ").startswith(start))


def test_the_answer_comes_first_in_one_sentence_with_bill_time_and_devices(plan):
    answer = " ".join(printed(plan).split("\n\n")[1].split())

    # 1.9 M tokens/s x 0.95 goodput: 9e12 / 1.805e6 s = 57.7 days; 4,096 x 7 CNY x 1,385 h = 39.7 M CNY; / 1.15, x 1.15
    assert answer.startswith(
        "Train on a, 4,096 x Maker A: predicted to cost 39.7 M CNY (34.5 M to 45.7 M) "
        "and to take 57.7 days (50.2 to 66.4). Why: do not mix"
    )


def test_the_title_says_the_model_the_fleet_and_what_is_sought(plan):
    assert printed(plan).splitlines()[:2] == [
        "ling-plus on ling_table.toml, lowest cost",
        "9.00 T tokens in steps of 36.7 M, sequences of 4,096, bf16",
    ]


def test_each_way_is_a_line_with_its_bill_for_1t_tokens_and_in_all(plan):
    row = line_of(section(printed(plan), "What each way costs"), "d ").split()

    # 2,048 x 27.5 CNY / (2.4 M x 0.95 tokens/s): 6.86 M per 1e12 tokens, nine times that in all, 45.7 days
    assert row == ["d", "6.86", "5.97-7.89", "61.8", "53.7-71.0", "45.7", "2,048", "kept"]


def test_the_recommended_way_is_marked_and_no_other(plan):
    marked = [line for line in printed(plan).splitlines() if line.startswith("> ")]

    assert [line.split()[1] for line in marked] == ["a"]


def test_a_way_that_breaks_a_limit_says_which(plan):
    text = section(printed(plan), "What each way costs")

    assert line_of(text, "b ").endswith("broken")
    assert "! b: deadline: 336 days and 75 are allowed" in text


def test_each_island_shows_layout_mfu_break_even_memory_and_where_its_speed_comes_from(plan):
    row = " ".join(line_of(section(printed(plan, 120), "How each would run"), "b ").split())

    assert row == "b 2,048: tp2 pp8 ep8 dp128 zero1 full mb1 22 % 40 % 55.0 of 58.9 prior"


def test_every_tag_that_appears_is_explained_and_no_other(plan, make_plan_of, make_choice, make_island):
    only_prior = make_plan_of(make_choice("x", make_island("x", devices=8, price=1, tokens_per_s=9e3, basis="prior")))

    assert all(f"{tag}: " in printed(plan) for tag in ("measured", "fitted", "prior"))
    assert "fitted: " not in printed(only_prior)


def test_the_chance_of_the_mix_the_links_it_needs_and_unusable_pools_are_told(plan):
    text = printed(plan, 120)

    assert "Probability that the best mix costs less than the best single pool: 18 % (predicted)" in text
    assert "- the link of a in a + d needs 37 Gbit/s, has 100" in text
    assert "c: 80 GB a device hold no layout" in section(text, "Pools that cannot be used")


@pytest.mark.parametrize(("speed", "text"), [(37.04, "37"), (1.834, "1.83"), (1994.0, "1,990"), (0.0123, "0.0123")])
def test_the_speed_of_a_link_has_three_digits_and_no_exponent(speed, text):
    assert gbit(speed) == text


def test_where_no_chance_is_known_none_is_told(plan):
    assert "Probability" in printed(plan)
    assert "Probability" not in printed(plan.model_copy(update={"mix_cheaper_probability": None}))


def test_the_pool_that_break_even_is_measured_against_is_named(plan):
    text = " ".join(printed(plan).split())
    d = plan.alternatives[3]
    out = plan.model_copy(
        update={"alternatives": (*plan.alternatives[:3], d.model_copy(update={"meets_limits": False}))}
    )

    assert "as much per token as the cheapest pool alone (d);" in text
    assert "the cheapest pool alone (d, which breaks the limits);" in " ".join(printed(out).split())


def test_example_prices_are_called_so_beside_the_bill_that_rests_on_them(plan, make_plan_of, make_choice, make_island):
    example = make_island("x", devices=8, price=1, tokens_per_s=9e3, example_price=True)

    assert "! example prices, not quotes: b" in printed(plan)
    assert "at example prices" not in printed(plan)
    assert "at example prices" in printed(make_plan_of(make_choice("x", example)))


def test_changes_are_sorted_by_what_they_do_to_the_bill(plan):
    lines = section(printed(plan), "What if").splitlines()

    assert [re.split(r"\s{2,}", line)[0] for line in lines[3:7]] == [
        "price of d -30 %",
        "pool a vanishes",
        "price of a -30 %",
        "price of a +30 %",
    ]
    assert lines[3].split()[5:] == ["-", "no", "plan", "-", "budget:", "60", "M", "CNY"]
    assert lines[4].split()[3:] == ["64.2", "+61.7", "%", "45.7", "d"]  # 64.2 / 39.712 - 1
    assert lines[7] == "1 of 5 changes tried leave the bill as it is."


def test_of_many_changes_the_largest_are_shown_and_the_rest_counted(plan):
    many = tuple(WhatIf(change=f"change {n}", pool="a", cost=50e6 + n, days=1.0, best="a") for n in range(20))
    text = section(printed(plan.model_copy(update={"what_if": many})), "What if")

    assert sum(line.startswith("change ") for line in text.splitlines()) == MOST_CHANGES
    assert f"{20 - MOST_CHANGES} changes move the bill by less" in text


def test_measurements_come_with_their_command_and_what_they_narrow(plan):
    row = line_of(section(printed(plan), "What to measure"), "everyflop measure --run").split()

    assert row == ["everyflop", "measure", "--run", "run.toml", "device-a", "1.32", "1.20"]


def test_assumptions_and_the_launch_command_close_the_page(plan):
    text = printed(plan, 120)

    assert "- Devices fail 0.27 % a day." in text
    assert "- Islands exchange 2 bytes a parameter every 24 steps on average." in text
    assert "- Extra tokens for the same loss: 1.1 % with 2 islands, 2.3 % with 4 islands (a scaling law)." in text
    assert "\n\nLaunch\n  everyflop train run.toml --plan plan.json\n" in text


def test_a_plan_that_everyflop_cannot_train_yet_says_so(plan, make_plan_of, make_choice, make_island):
    one = make_plan_of(make_choice("a", make_island("a", devices=1, price=2, tokens_per_s=9e3)))

    assert "An island of more than one device is not built yet" in printed(plan)
    assert printed(one).rstrip().endswith("everyflop train run.toml --plan plan.json")


def test_a_plan_of_islands_with_one_device_each_says_where_they_train(make_plan_of, make_choice, make_island):
    islands = [make_island(name, devices=1, price=2, tokens_per_s=9e3) for name in ("a", "b")]

    assert "starts all islands on the machine that it runs on" in printed(make_plan_of(make_choice("a + b", *islands)))


def test_limits_that_are_set_are_said(plan):
    limits = Limits(budget=5e6, max_devices=1000, max_islands=1)

    assert "Limits: at most 5.00 M CNY, 1,000 devices, 1 island" in printed(plan.model_copy(update={"limits": limits}))


def test_a_mix_says_who_trains_how_much(plan):
    mix = plan.alternatives[1]
    chosen = plan.model_copy(update={"recommended": mix.name, "islands": mix.islands, "total": mix.total})

    assert "4,096 x Maker A (44 % of the tokens) and 2,048 x Maker D (56 % of the tokens)" in " ".join(
        printed(chosen).split()
    )


@pytest.fixture
def split(plan, make_plan_of, make_choice, make_island) -> Plan:
    """Pool a as four equal islands."""
    islands = [
        make_island(f"a-{n}", devices=64, price=2.0, tokens_per_s=1e5, share=0.25, pool="a", title="Maker A")
        for n in range(1, 5)
    ]
    way = make_choice("4 x a", *islands).model_copy(update={"kind": "single"})
    return make_plan_of(way, limits=Limits(), why="a is the only pool")


def test_a_pool_that_is_split_into_islands_is_called_by_their_number(split):
    text = printed(split, 120)

    assert line_of(section(text, "What each way costs"), "4 x a ")
    assert line_of(section(text, "How each would run"), "a-3 in 4 x a ")


def test_equal_islands_are_counted(split):
    text = " ".join(printed(split).split())

    assert "Train on 4 x a, 4 islands of 64 x Maker A (25 % each): predicted" in text


def test_an_island_that_never_exchanges_needs_no_link(plan):
    never = {"least_link_gbit_per_s": None, "link_gbit_per_s": None}
    mix = plan.alternatives[1]
    islands = (mix.islands[0].model_copy(update=never), mix.islands[1])
    text = printed(plan.model_copy(update={"alternatives": (mix.model_copy(update={"islands": islands}),)}))

    assert text.count("the link of") == 1


def test_where_nothing_keeps_the_limits_nothing_is_recommended(plan):
    broken = [c.model_copy(update={"meets_limits": False, "broken_limits": ("budget: x",)}) for c in plan.alternatives]
    text = printed(plan.model_copy(update={"alternatives": tuple(broken)}))

    assert "No choice keeps the limits; nearest comes a, " in text
    assert "Train on" not in text


def test_nothing_is_said_of_parts_that_a_plan_lacks(make_plan_of, make_choice, make_island):
    text = printed(make_plan_of(make_choice("x", make_island("x", devices=8, price=1, tokens_per_s=9e3))))

    absent = ("Probability", "Cheaper or faster", "cannot be used", "What if", "What to measure", "link of")
    assert [words for words in absent if words in text] == []


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_line_fits_the_terminal_and_nothing_is_cut_off(any_plan, width):
    text = printed(any_plan, width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_every_pool_and_mix_is_shown(any_plan):
    text = "".join(printed(any_plan, 200).split())

    names = [c.name for c in any_plan.alternatives] + list(any_plan.unusable)
    assert [name for name in names if "".join(name.split()) not in text] == []


def test_the_page_is_the_same_each_time(any_plan):
    assert printed(any_plan) == printed(any_plan)


def test_names_are_never_read_as_markup(make_plan_of, make_choice, make_island):
    name = "[red]x[/] :smile:"
    text = printed(make_plan_of(make_choice(name, make_island("x", devices=8, price=1, tokens_per_s=9e3))))

    assert text.count(name) >= 2


def test_a_free_pool_costs_nothing_and_breaks_nothing(make_plan_of, make_choice, make_island):
    best = make_choice("own", make_island("own", devices=8, price=0, tokens_per_s=9e3))
    what_if = (WhatIf(change="pool own vanishes", pool="own", cost=None, days=None, best="no pool is left"),)

    assert "predicted to cost 0 CNY" in printed(make_plan_of(best, what_if=what_if))


def test_a_small_run_is_told_in_minutes(make_plan_of, make_choice, make_island):
    small = make_choice("x", make_island("x", devices=1, price=0.1, tokens_per_s=4.5e9))

    assert "to take 35.1 minutes" in " ".join(printed(make_plan_of(small)).split())  # 9e12 / (4.5e9 x 0.95) s


def test_the_page_prints_where_only_ascii_can(plan):
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as out:
        Console(file=out, width=80).print(page(plan))
        out.flush()

        assert b"Train on a" in raw.getvalue()
