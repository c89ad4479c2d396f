import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.planner.show.charts.svg import fitted, marker, svg, text, text_width


@pytest.mark.parametrize("width", [60, 120, 240])
@given(name=st.text(min_size=1, max_size=80))
def test_a_fitted_name_fits(name, width):
    assert text_width(fitted(name, width)) <= width


def test_a_name_that_fits_is_left_alone():
    assert fitted("h100", 60) == "h100"


def test_a_long_name_loses_its_middle():
    short = fitted("region-00-of-a-provider-with-a-long-name", 160)

    assert short.startswith("region-00")
    assert short.endswith("name")
    assert "…" in short


def test_wide_characters_count_as_wide():
    assert text_width("昇腾集群") == pytest.approx(4 * 13)


def test_text_and_titles_are_escaped():
    drawn = text(0, 0, '<b>&"', kind="label", title="<i>")

    assert "&lt;b&gt;&amp;&quot;" in drawn
    assert "<title>&lt;i&gt;</title>" in drawn


def test_what_a_screen_reader_says_is_escaped():
    assert 'aria-label="&quot;&lt;"' in svg(10, '"<', [])


def test_each_basis_has_a_mark_of_its_own_shape():
    measured, fit, prior = (marker(0, 0, basis, kind="", title="") for basis in ("measured", "fitted", "prior"))

    assert "circle" in measured
    assert "mark" in measured
    assert "path" in fit
    assert "circle" in prior
    assert "ring" in prior
