import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.units import (
    decimals_of,
    money,
    parse_amount,
    parse_count,
    percent,
    scale_of,
    short_count,
    short_money,
    short_time,
    time_scale_of,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("250000", 250_000),
        ("1_000_000", 1_000_000),
        ("1.5M", 1_500_000),
        (" 2 k ", 2_000),
        ("9T", 9_000_000_000_000),
        ("0.5b", 500_000_000),
        ("3G", 3_000_000_000),
        ("0", 0),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_counts_are_read_as_people_write_them(text: str, count: int):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "_", ".", "M", "1..5M", "1.5", "0.0001K", "-3", "1e6", "2 MB", "5 tokens", "٣"])
def test_what_is_no_whole_count_is_refused_with_the_text_quoted(text: str):
    with pytest.raises(ValueError, match="is not a"):
        parse_count(text)


@given(st.integers(0, 999_999))
def test_six_figures_with_a_suffix_are_exact(thousandths: int):
    assert parse_count(f"{thousandths // 1000}.{thousandths % 1000:03d}M") == thousandths * 1000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.00 K"),
        (954_000, "954 K"),
        (999_960, "1.00 M"),
        (9_600_000, "9.60 M"),
        (16_802_000_000, "16.8 B"),
        (-954_000, "-954 K"),
        (9e12, "9.00 T"),
    ],
)
def test_counts_are_written_with_three_figures(count: float, text: str):
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (95, "1 min 35 s"),
        (3599.9, "1 h 00 min"),
        (5_430, "1 h 30 min"),
        (2 * 86_400, "2.0 days"),
        (302_400, "3.5 days"),
    ],
)
def test_durations_are_written_in_two_units(seconds: float, text: str):
    assert short_time(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(6_350_000, "6,350,000.00 CNY"), (1, "1.00 CNY"), (0.00123, "0.0012 CNY"), (0, "0 CNY")]
)
def test_small_amounts_do_not_vanish(amount: float, text: str):
    assert money(amount, "CNY") == text


@pytest.mark.parametrize(
    ("amount", "text"), [(5_083_210, "5.08 M CNY"), (950, "950 CNY"), (12.3, "12.3 CNY"), (0.00123, "0.00123 CNY")]
)
def test_amounts_to_compare_have_three_figures(amount: float, text: str):
    assert short_money(amount, "CNY") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.213, "21 %"), (0.0341, "3.4 %"), (0.0996, "10 %"), (1.0, "100 %"), (0, "0.0 %")]
)
def test_shares_are_shown_as_percent_with_two_figures(share: float, text: str):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("values", "suffix", "texts"),
    [
        ([5_083_210, 12_345_678], "M", ["5.08", "12.35"]),
        ([900_000, 40_000_000], "M", ["0.90", "40.00"]),
        ([95_000, 5_000_000], "K", ["95.0", "5,000.0"]),
        ([123e6, 999e6], "M", ["123", "999"]),
        ([0.0034, 0.0123], "", ["0.0034", "0.0123"]),
        ([0.0, 0.0], "", ["0.00", "0.00"]),
        ([3e15], "T", ["3,000"]),
    ],
)
def test_a_column_of_figures_has_one_scale_that_its_smallest_can_be_read_in(values, suffix, texts):
    scale = scale_of(values)

    assert scale.suffix == suffix
    assert [scale.write(value) for value in values] == texts


@pytest.mark.parametrize(
    ("days", "suffix", "texts"),
    [
        ([57.71, 353.7], "days", ["57.7", "353.7"]),
        ([120.4, 353.7], "days", ["120", "354"]),
        ([0.5, 3.0], "hours", ["12.0", "72.0"]),
        ([0.002], "minutes", ["2.9"]),
        ([0.0001], "seconds", ["8.6"]),
        ([0.0], "days", ["0.0"]),
    ],
)
def test_a_column_of_times_has_one_unit(days, suffix, texts):
    scale = time_scale_of(days)

    assert scale.suffix == suffix
    assert [scale.write(value) for value in days] == texts


@pytest.mark.parametrize(
    ("largest", "decimals"), [(1_223, 0), (100, 0), (55.0, 1), (3.21, 2), (0.0123, 4), (1e-9, 6), (0, 6), (-55.0, 1)]
)
def test_figures_get_the_decimals_that_give_the_largest_three_digits(largest, decimals):
    assert decimals_of(largest) == decimals


@pytest.mark.parametrize(
    ("text", "amount"), [("12.3", 12.3), ("5K", 5000.0), ("1_000.5", 1000.5), ("0.25 M", 250_000.0)]
)
def test_an_amount_may_be_a_fraction(text, amount):
    assert parse_amount(text) == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "five"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="is not an amount"):
        parse_amount(text)
