"""No line-up is better than its bounds say, and none that keeps the limits is left out."""

from itertools import product

from hypothesis import given, settings

from everyflop.planner.choose.bounds import bounds
from everyflop.planner.choose.bundles import bundles_of
from everyflop.planner.choose.line_ups import line_ups
from everyflop.planner.choose.market import SLACK, bill_of, broken_caps

from ..markets import market, option
from .test_mix import questions


@settings(max_examples=40)
@given(questions())
def test_no_choice_is_better_than_the_bounds_of_its_line_up(question):
    made, options, caps, _, _ = question
    for islands in (1, 2, 3):
        offered = bundles_of(made, options[islands], islands)
        ups = line_ups(made, offered, islands)
        found = bounds(made, offered, ups, caps)
        place = {int(number): at for at, number in enumerate(found.possible)}
        for number in range(len(ups.pools)):
            for members in product(*(range(len(offered[part].chosen)) for part in ups.parts(number))):
                chosen = [
                    one
                    for part, which in zip(ups.parts(number), members, strict=True)
                    for one in offered[part].members(which)
                ]
                if not any(broken_caps(made, chosen, caps)):
                    bill = bill_of(made, chosen)
                    assert number in place
                    price = bill.cost / made.tokens_needed(islands)
                    assert price * SLACK >= found.least_price[place[number]]
                    assert bill.tokens_per_s <= found.most_speed[place[number]] * SLACK


def test_line_ups_name_every_set_of_linked_pools_once():
    made = market(("x", "y", "z"), gbit=[[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    offered = bundles_of(made, [option(pool, 8, speed=1, price=1) for pool in range(3)], 2)

    pairs = [tuple(row) for row in line_ups(made, offered, 2).pools]

    assert pairs == [(0, 0), (0, 1), (1, 1), (1, 2)]  # a and c have no link, and c has none inside
