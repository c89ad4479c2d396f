import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.samples import SampleTable, count, numbers, take

SCHEDULES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["top up", "use", "reject", "give back"]), st.integers(0, 15)),
    max_size=40,
)


@given(total=st.integers(0, 80), schedule=SCHEDULES)
def test_every_sample_is_used_exactly_once_whoever_comes_and_goes(total, schedule):
    table, used = SampleTable(total), []
    for island, what, n in schedule:
        if what == "top up":
            table.top_up(island, n)
        elif what == "use":
            used += numbers(table.consume(island, min(n, count(table.held.get(island, [])))))
        elif what == "reject":
            used += numbers(table.reject(island, min(n, count(table.held.get(island, []))))[0])
        else:
            table.give_back(island)
        held = sum(count(ranges) for ranges in table.held.values())
        assert len(used) == table.consumed == total - table.unclaimed - held

    for island in "abc":
        table.give_back(island)
    while table.unclaimed:
        used += numbers(table.consume("last", count(table.top_up("last", 7))))

    assert sorted(used) == list(range(total))


@given(total=st.integers(0, 80), schedule=SCHEDULES)
def test_two_islands_never_hold_the_same_sample(total, schedule):
    table = SampleTable(total)
    for island, what, n in schedule:
        if what == "give back":
            table.give_back(island)
        elif what == "reject":
            table.reject(island, min(n, count(table.held.get(island, []))))
        else:
            table.top_up(island, n)

        held = [number for ranges in table.held.values() for number in numbers(ranges)]
        assert len(set(held)) == len(held)
        assert set(held).isdisjoint(numbers(table.free))


def test_an_island_uses_what_it_holds_in_its_order():
    table = SampleTable(100)
    table.top_up("a", 4)
    table.top_up("b", 3)
    table.top_up("a", 6)

    assert table.consume("a", 3) == [[0, 3]]
    assert table.consume("a", 3) == [[3, 1], [7, 2]]


def test_what_was_trained_on_in_vain_is_free_again_once():
    table = SampleTable(100)
    table.top_up("a", 4)

    assert table.reject("a", 3) == ([], [[0, 3]])
    assert table.top_up("b", 3) == [[0, 3]]
    assert table.reject("b", 2) == ([[0, 2]], [])
    assert table.reject("a", 1) == ([], [[3, 1]])


def test_freed_samples_go_out_before_new_ones_and_the_lowest_first():
    table = SampleTable(100)
    for island in "abc":
        table.top_up(island, 2)
    table.give_back("b")
    table.give_back("a")

    assert numbers(table.top_up("d", 6)) == [0, 1, 2, 3, 6, 7]


def test_an_island_that_holds_enough_gets_nothing_more():
    table = SampleTable(100)
    table.top_up("a", 5)

    assert table.top_up("a", 3) == [[0, 5]]
    assert table.next == 5


def test_the_last_samples_go_to_whoever_asks_first():
    table = SampleTable(5)

    assert table.top_up("a", 4) == [[0, 4]]
    assert table.top_up("b", 4) == [[4, 1]]
    assert table.top_up("c", 4) == []


def test_what_an_island_is_told_of_its_samples_is_a_copy():
    table = SampleTable(10)
    table.top_up("a", 3)[0][1] = 99

    assert table.held["a"] == [[0, 3]]


def test_a_table_in_json_stays_as_it_was_when_the_table_goes_on():
    table = SampleTable(10)
    table.top_up("a", 3)
    table.top_up("b", 3)
    table.give_back("b")
    facts = table.to_json()
    before = json.dumps(facts)
    table.consume("a", 1)
    table.top_up("c", 5)

    assert json.dumps(facts) == before


def test_more_than_an_island_holds_cannot_be_used():
    table = SampleTable(10)
    table.top_up("a", 3)

    with pytest.raises(ValueError, match="4 samples wanted of 3 held"):
        table.consume("a", 4)
    assert table.held["a"] == [[0, 3]]


def test_an_island_that_holds_nothing_gives_nothing_back():
    table = SampleTable(10)

    table.give_back("nobody")

    assert table == SampleTable(10)


@given(total=st.integers(0, 80), schedule=SCHEDULES)
def test_a_table_survives_json(total, schedule):
    table = SampleTable(total)
    for island, what, n in schedule:
        if what == "top up":
            table.top_up(island, n)
        elif what in ("use", "reject"):
            (table.consume if what == "use" else table.reject)(island, min(n, count(table.held.get(island, []))))
        else:
            table.give_back(island)

    assert SampleTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def test_a_table_from_json_shares_no_list_with_it():
    table = SampleTable(10)
    table.top_up("a", 3)
    facts = table.to_json()
    SampleTable.from_json(facts).consume("a", 2)

    assert facts["held"] == {"a": [[0, 3]]}


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 9)), max_size=6), st.data())
def test_taking_splits_ranges_without_touching_the_order(pairs, data):
    ranges = [list(pair) for pair in pairs]
    n = data.draw(st.integers(0, count(ranges)))

    taken, left = take(ranges, n)

    assert numbers(taken) == numbers(ranges)[:n]
    assert numbers(left) == numbers(ranges)[n:]
    assert ranges == [list(pair) for pair in pairs]


def test_a_table_of_another_everyflop_has_more_or_less_in_it():
    facts = SampleTable(10, next=3).to_json()
    del facts["rejected"]

    assert SampleTable.from_json({**facts, "colour": "red"}) == SampleTable(10, next=3)
