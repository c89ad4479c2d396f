"""What measurements say of other cases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.planner.speed.calibration import Calibration, Deviations, Evidence, Tags, covariance

DEVIATIONS = Deviations(
    overall=(0.03, 0.05, 0.04, 0.03, 0.08, 0.06),
    component=(0.08, 0.12, 0.07, 0.09, 0.15, 0.10),
    alike=0.1,
    alike_distance=1.0,
    noise=0.03,
    moe_noise=0.07,
)


def case(chip: str = "h100", architecture: str = "Hopper", software: str = "x", kind: str = "dense", size: float = 0.0):
    shares, sizes = np.array([[0.6, 0.3, 0.1]]), np.array([[size, 0.0]])
    return Evidence(Tags.one(chip, architecture, software, "megatron", kind), shares, sizes)


def learnt(residual: float, given: Evidence | None = None) -> Calibration:
    return Calibration.fit(DEVIATIONS, given or case(), np.array([residual]))


def test_without_measurements_of_anything_like_it_a_case_is_not_corrected():
    none = Evidence.stack_up([case()]).take(np.array([], dtype=int))
    mean, sd = Calibration.fit(DEVIATIONS, none, np.array([])).correct(case())

    variance = sum(v**2 for v in DEVIATIONS.overall) + DEVIATIONS.alike**2
    variance += sum(v**2 for v in DEVIATIONS.component) * (0.36 + 0.09 + 0.01)
    assert mean[0] == 0
    assert sd[0] == pytest.approx(np.sqrt(variance + DEVIATIONS.noise**2))


def test_the_measured_case_itself_moves_most_of_the_way():
    mean, sd = learnt(0.2).correct(case())

    assert 0.17 < mean[0] < 0.2
    assert sd[0] < 0.06


def test_the_nearer_a_case_is_the_more_it_learns():
    known = learnt(0.2)
    others = [case(), case(size=2.0), case(software="y"), case("h800", software="y"), case("mi300x", "CDNA3", "y")]
    means = [known.correct(other)[0][0] for other in others]
    widths = [known.correct(other)[1][0] for other in others]

    assert means == sorted(means, reverse=True)
    assert means[-1] > 0
    assert widths == sorted(widths)


CHIPS = (("h100", "Hopper"), ("h800", "Hopper"), ("mi300x", "CDNA3"))


@given(
    st.lists(
        st.tuples(st.sampled_from(CHIPS), st.sampled_from("xy"), st.sampled_from(["moe", "dense"]), st.floats(0, 3))
    ),
    st.sampled_from(CHIPS),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=4),
)
def test_cases_that_share_their_tags_are_corrected_as_each_alone(measured, chip, cases):
    given = [case(*where, software, kind, size) for where, software, kind, size in measured]
    none = Evidence.stack_up([case()]).take(np.array([], dtype=int))
    evidence = Evidence.stack_up(given) if given else none
    known = Calibration.fit(DEVIATIONS, evidence, np.linspace(-0.3, 0.3, len(given)))
    known = replace(known, offsets={"h800": 0.4})
    tags = case(*chip, "x", "moe").tags
    shares = np.array([[share, 1 - share, 0.0] for share, _ in cases])
    together = Evidence(tags, shares, np.array([[size, 1.0] for _, size in cases]))
    each = replace(together, tags=Tags.stack_up([tags] * len(cases)))

    for found, expected in zip(known._of_one_kind(together), known._of_any(each), strict=True):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_models_with_experts_are_measured_less_surely():
    _, dense = learnt(0.2).correct(case())
    _, moe = learnt(0.2, case(kind="moe")).correct(case(kind="moe"))

    assert moe[0] > dense[0]


def test_what_the_user_measured_is_believed_however_far_off_it_is():
    known = learnt(0.1).also(case("cpu", "x86"), np.array([-1.2]))
    mean, sd = known.correct(case("cpu", "x86"))

    assert mean[0] == pytest.approx(-1.2, abs=0.02)
    assert sd[0] < 0.06


def test_what_the_user_measured_says_little_of_other_chips():
    before, after = (
        known.correct(case())[0][0] for known in (learnt(0.1), learnt(0.1).also(case("cpu", "x86"), np.array([-1.2])))
    )

    assert abs(after - before) < 0.02


def test_the_order_of_a_users_measurements_does_not_matter():
    a, b = case("cpu", "x86"), case("cpu", "x86", size=1.0)
    one_way = learnt(0.1).also(Evidence.stack_up([a, b]), np.array([-1.2, -1.1]))
    other_way = learnt(0.1).also(Evidence.stack_up([b, a]), np.array([-1.1, -1.2]))

    assert one_way.correct(case(size=0.5))[0] == pytest.approx(other_way.correct(case(size=0.5))[0])


def test_a_dense_measurement_where_it_was_expected_counts_like_a_published_one():
    told = learnt(0.1).also(case("h800", size=1.0), np.array([0.15]))
    published = Calibration.fit(DEVIATIONS, Evidence.stack_up([case(), case("h800", size=1.0)]), np.array([0.1, 0.15]))

    assert told.offsets == {}
    assert told.correct(case(size=0.5))[0] == pytest.approx(published.correct(case(size=0.5))[0])


def test_one_wild_measurement_does_not_outweigh_many():
    many = Evidence.stack_up([case(size=s) for s in np.linspace(-0.3, 0.3, 8)])
    with_outlier = Calibration.fit(DEVIATIONS, many, np.array([0.1] * 7 + [-1.5]))

    assert with_outlier.correct(case())[0][0] > 0


def test_shared_errors_are_on_the_diagonal_what_single_intervals_are():
    known, cases = learnt(0.1), Evidence.stack_up([case(size=1.0), case("mi300x", "CDNA3", "y")])
    joint = known.joint(cases)

    assert np.sqrt(np.diag(joint) + DEVIATIONS.noise**2) == pytest.approx(known.correct(cases)[1])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.floats(-3, 3)), min_size=2, max_size=6))
def test_covariances_are_such_that_no_combination_has_negative_variance(described):
    cases = Evidence.stack_up([case(chip, f"arch-{chip}", software, size=size) for chip, software, size in described])

    assert np.linalg.eigvalsh(covariance(cases, cases, DEVIATIONS)).min() > -1e-9


def test_a_chip_is_known_by_its_name():
    assert learnt(0.1).knows("h100")
    assert not learnt(0.1).knows("h200")


def test_noise_of_a_measurement_leaves_it_less_weight():
    sure = Calibration.fit(DEVIATIONS, case(), np.array([0.2]), np.array([0.0]))
    unsure = Calibration.fit(DEVIATIONS, case(), np.array([0.2]), np.array([0.3]))

    assert unsure.correct(case())[0][0] < sure.correct(case())[0][0] / 1.5


def test_without_an_architecture_a_chip_is_one_of_its_own():
    known = learnt(0.2, case("odd-1", ""))

    assert known.correct(case("odd-2", ""))[0][0] == pytest.approx(known.correct(case("odd-2", "Else"))[0][0])
    assert replace(DEVIATIONS, noise=0.1).noise_of(case().tags)[0] == 0.1
