import re
from html.parser import HTMLParser

import pytest

from everyflop.planner.show.charts.change import MOST_BARS
from everyflop.planner.show.charts.parts import MOST_COLOURS, OTHER
from everyflop.planner.show.html import html
from everyflop.spec.plan import Limits, Plan, WhatIf

VOID = {"meta"}


class Reader(HTMLParser):
    """Keeps the texts of a page by the tag around them, and refuses tags that do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[list[str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append((self.open[-1], data))
            if {"td", "th"} & set(self.open):
                self.cells[-1][-1] += f"{data}|"

    @property
    def text(self) -> str:
        return "\n".join(data for _, data in self.texts)

    def rows(self, first: str) -> list[str]:
        """Return the text of the table rows whose first cell begins with this text."""
        found = [" ".join(cells) for cells in self.cells if cells[0].split("|")[0] == first]
        return [" ".join(row.replace("|", " ").split()) for row in found]


def section(page: str, title: str) -> str:
    return next(part for part in page.split("<section>") if part.startswith(f"<h2>{title}"))


def test_tags_nest(any_plan):
    Reader(html(any_plan))


def test_the_page_needs_nothing_from_elsewhere(any_plan):
    page = Reader(html(any_plan))

    links = [a for a in page.attributes if a[1] in ("src", "href", "xlink:href", "srcset", "data", "action")]
    assert links == []
    assert not re.search(r"url\(|@import|https?:|<script|<link|<iframe", html(any_plan))


def test_the_same_plan_gives_the_same_bytes(any_plan):
    assert html(any_plan) == html(any_plan.model_copy(deep=True))


def test_the_title_says_the_model_and_the_fleet(plan):
    texts = Reader(html(plan)).texts

    assert ("title", "Plan: ling-plus on ling_table.toml") in texts
    assert ("h1", "ling-plus on ling_table.toml") in texts


@pytest.mark.parametrize(
    "field", ["name", "fleet", "why", "launch", "currency", "pool", "assumption", "cause", "change"]
)
def test_whatever_people_wrote_is_escaped(plan, field):
    bad = "<b>&\"'x"
    change = {
        "name": {"workload": plan.workload.model_copy(update={"name": bad})},
        "pool": {"alternatives": tuple(c.model_copy(update={"name": bad + c.name}) for c in plan.alternatives)},
        "assumption": {"assumptions": (bad,)},
        "cause": {"unusable": {bad: bad}},
        "change": {"what_if": tuple(w.model_copy(update={"change": bad, "best": bad}) for w in plan.what_if)},
    }.get(field, {field: bad})

    page = html(plan.model_copy(update=change))

    assert "<b>&" not in page
    assert bad in Reader(page).text


def test_each_choice_is_a_row_with_every_figure_of_its_total(plan):
    rows = Reader(html(plan)).rows("4")

    # The same figures by hand as in test_page.py; tokens/s 2.4 M x 0.95 = 2.28 M, / 1.15 and x 1.15.
    assert rows == [
        "4 d single 6.86 5.97-7.89 61.8 53.7-71.0 45.7 39.7-52.5 2,048 2.28 M 1.98 M-2.62 M 1.000 kept",
    ]


def test_each_island_is_a_row_with_devices_layout_speed_cost_and_memory(plan):
    lies, runs = Reader(html(plan)).rows("b in a + b + d")[:2]

    assert "2,048 x Maker B" in lies
    assert "tp2 pp8 ep8 dp128, zero1, full recompute, micro-batch 1" in lies
    assert runs == (
        "b in a + b + d prior 310 K 270 K-356 K 7.0 % 95 % 8.69 7.56-10.00 78.2 M CNY 68.0 M-90.0 M 4.5 example "
        "22 % 40 % 55.0 of 58.9 37 has 100"
    )


def test_every_part_of_a_step_and_of_the_memory_is_a_figure(plan):
    page = html(plan)
    time, memory = section(page, "Where the time"), section(page, "Where the memory")

    for part in plan.islands[0].step_s:
        assert f'<th class="n">{part}</th>' in time
    for part in plan.islands[0].mem_gib:
        assert f'<th class="n">{part}</th>' in memory
    # 8,960 x 4,096 tokens / 1.9 M tokens/s = 19.3 s, 46 % of it matmul
    assert Reader(f"<section>{time}").rows("a")[0].startswith("a 8.9 ")
    assert Reader(f"<section>{memory}").rows("a")[0].endswith(" 55.0")


def test_every_change_measurement_assumption_and_unusable_pool_is_told(plan):
    text = Reader(html(plan)).text

    for what_if in plan.what_if:
        assert what_if.change in text
        assert what_if.best in text
    for measurement in plan.measure_next:
        assert measurement.command in text
        assert measurement.device in text
    for words in (*plan.assumptions, *plan.unusable.values(), plan.exchange.source, plan.launch, plan.why):
        assert words in text
    assert plan.catalogue_sha256 in text
    assert "everyflop 0.1.0" in text
    assert "18 % (predicted)" in text


def test_every_picture_says_that_it_is_predicted_and_has_axes_with_units(plan):
    page = html(plan)

    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == page.count("<svg") == 6
    assert all(caption.startswith("Predicted") for caption in captions)
    axes = re.findall(r'class="axis"[^>]*>([^<]*)<', page)
    assert axes == [
        "cost of 10¹² tokens, M CNY (predicted P10, P50, P90)",
        "cost in all by pool, M CNY (predicted P50)",
        "time, days (predicted P50), logarithmic",
        "cost in all, M CNY (predicted P50)",
        "share of one optimizer step, % (predicted)",
        "peak memory of the fullest device, GiB (predicted)",
        "cost in all, M CNY (predicted P50)",
    ]


def test_every_chip_has_the_tag_of_its_basis(plan):
    page = section(html(plan), "How each would run")

    tags = re.findall(r'class="tag (\w+)"', page)
    assert tags == [island.basis for choice in plan.alternatives for island in choice.islands]


def test_example_prices_are_called_so(plan, make_plan_of, make_choice, make_island):
    example = make_island("x", devices=8, price=1, tokens_per_s=9e3, example_price=True)

    assert "example prices, not quotes: b" in html(plan)
    assert "at example prices" in html(make_plan_of(make_choice("x", example)))


def test_choices_of_the_front_that_are_no_alternatives_have_rows_of_their_own(plan, make_choice, make_island):
    few = make_choice("a", make_island("a", devices=1024, price=7.0, tokens_per_s=0.5e6))
    page = Reader(html(plan.model_copy(update={"front": (few, *plan.front)})))

    assert "1,024" in page.rows("6")[0]
    assert sum("1,024 x Maker A" in " ".join(cells) for cells in page.cells) == 1


def test_a_choice_is_drawn_from_p10_to_p90_with_the_mark_of_its_least_sure_chip(plan):
    picture = section(html(plan), "What each way costs")

    ends = [float(x) for x in re.findall(r'<line x1="([^"]*)"[^>]*class="whisker best"', picture)][1:]
    (middle,) = re.findall(r'd="M([^ ]*) [^"]*" class="mark best"', picture)  # a is fitted: a diamond
    # On a linear axis from 0 lengths are to each other as the figures: 1 / 1.15 and 1.15.
    zero = float(re.search(r'<line x1="([^"]*)"[^>]*class="grid"', picture)[1])
    assert [(x - zero) / (float(middle) - zero) for x in ends] == pytest.approx([1 / 1.15, 1.15], abs=1e-3)
    assert picture.count('class="ring ') == 2  # b alone, and a + b + d


def test_the_line_of_the_front_joins_its_choices_alone_in_level_and_upright_steps(plan):
    picture = section(html(plan), "Cost against time")
    corners = [tuple(map(float, xy.split())) for xy in re.search(r'd="M([^"]*)" class="front"', picture)[1].split(" L")]

    # a + d at 25.8 days, then level to the 57.7 days of a, then down to its bill
    assert len(corners) == 3
    assert corners[0][1] == corners[1][1]
    assert corners[1][0] == corners[2][0] > corners[0][0]
    assert corners[2][1] > corners[1][1]


def test_the_bill_of_each_mix_is_drawn_and_listed_by_pool(plan):
    part = section(html(plan), "What the money of each mix is for")
    mix = plan.alternatives[1]
    share = 4096 * 7.0 / (4096 * 7.0 + 2048 * 27.5)  # of the bill of a + d: its devices' price of one hour

    assert f'class="c1"><title>a: {share:.0%}' in part or f'class="c0"><title>a: {share:.0%}' in part
    assert f"{mix.name}</td>" in part
    assert f"{100 * share:.0f} %" in part
    assert "cost in all by pool, M CNY (predicted P50)" in part


def test_only_the_recommended_choice_stands_out(any_plan):
    assert html(any_plan).count('<tr class="best">') == 1


def test_sections_for_what_a_plan_lacks_are_left_out(make_plan_of, make_choice, make_island):
    page = html(make_plan_of(make_choice("x", make_island("x", devices=8, price=1, tokens_per_s=9e3))))

    absent = (
        "Cost against time",
        "What the money of each mix is for",
        "cannot be used",
        "What if",
        "What to measure",
        "Probability",
    )
    assert [words for words in absent if words in page] == []


def test_changes_that_move_nothing_get_no_picture(plan):
    still = (WhatIf(change="pool b vanishes", pool="b", cost=plan.total.cost.p50, days=57.7, best="a"),)
    part = section(html(plan.model_copy(update={"what_if": still})), "What if")

    assert "None of these changes moves the bill." in part
    assert "<svg" not in part


def test_of_many_changes_the_largest_are_drawn_and_all_are_listed(plan):
    many = tuple(WhatIf(change=f"change {n}", pool="a", cost=50e6 + n, days=1.0, best="a") for n in range(30))
    part = section(html(plan.model_copy(update={"what_if": many})), "What if")

    assert part.count('class="dearer"') == MOST_BARS
    assert part.count("<tr><td") == 30


def test_many_small_parts_share_the_last_colour_and_keep_their_figures(make_plan_of, make_choice, make_island):
    step = {f"part {n}": 100.0 - n for n in range(14)}
    page = html(make_plan_of(make_choice("x", make_island("x", devices=8, price=1, tokens_per_s=9e3, step_s=step))))
    part = section(page, "Where the time")

    assert len(set(re.findall(r'<rect[^>]* class="(c\d)"', part))) == MOST_COLOURS + 1
    assert OTHER in part
    assert all(f'<th class="n">{name}</th>' in part for name in step)


def test_limits_are_drawn_where_the_picture_reaches(plan):
    near = section(html(plan), "Cost against time")
    far = section(html(plan.model_copy(update={"limits": Limits(budget=1e9, deadline_days=3.0)})), "Cost against time")

    assert ">deadline</text>" in near
    assert ">budget</text>" in near
    assert ">deadline</text>" not in far
    assert ">budget</text>" not in far


def test_a_free_pool_can_be_drawn(make_plan_of, make_choice, make_island):
    own = make_choice("own", make_island("own", devices=8, price=0, tokens_per_s=9e3))
    paid = make_choice("paid", make_island("paid", devices=8, price=1, tokens_per_s=9e3))
    what_if = (WhatIf(change="pool own vanishes", pool="own", cost=2.0e6, days=9.0, best="paid"),)

    Reader(html(make_plan_of(own, paid, what_if=what_if, front=(own,))))
    Reader(html(make_plan_of(own)))


def test_no_figure_falls_out_of_its_picture(any_plan: Plan):
    for picture in re.findall(r"<svg.*?</svg>", html(any_plan), re.DOTALL):
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture).groups())
        xs = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="([^"]*)"', picture)]
        ys = [float(y) for y in re.findall(r' (?:y|y1|y2|cy)="([^"]*)"', picture)]

        assert min(xs) >= 0
        assert max(xs) <= width
        assert min(ys) >= 0
        assert max(ys) <= height
