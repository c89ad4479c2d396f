import pytest

from everyflop.data.split import is_held_out, place


def test_the_place_of_a_name_is_the_first_48_bits_of_its_sha256():
    # printf json | sha256sum -> 02bd175f3297...; the value never changes, so neither does what is held out.
    assert place("json") == pytest.approx(0x02BD175F3297 / 2**48, abs=1e-12)


def test_a_group_is_held_out_when_its_place_lies_below_the_share():
    assert is_held_out("json", 0.012)  # its place is 0.0108
    assert not is_held_out("json", 0.010)


def test_about_the_share_asked_for_is_held_out():
    held_out = sum(is_held_out(f"file-{number}", 0.05) for number in range(10_000))

    assert 400 < held_out < 600  # 500 expected, standard deviation 22


def test_a_larger_share_holds_out_all_that_a_smaller_one_does():
    names = [f"file-{number}" for number in range(1000)]
    small = {name for name in names if is_held_out(name, 0.05)}
    large = {name for name in names if is_held_out(name, 0.2)}

    assert small < large


def test_a_file_name_that_is_no_valid_text_has_a_place_too():
    assert 0 <= place("broken-\udcff.txt") < 1
