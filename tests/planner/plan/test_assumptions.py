"""What a plan assumes is told once for each device, and only what holds for it."""

from everyflop.planner.plan.assumptions import assumptions

from ..fleets import A100, H100, LITE, desk, fleet

A910 = {"name": "card", "vendor": "Me", "like": "ascend-910b2", "bf16_tflops": 370}


def told(fleet, workload=LITE):
    asked = desk(fleet)
    best = asked.best()
    assert best
    return assumptions(asked, [best], workload)


def test_what_is_inferred_and_assumed_of_a_device_is_one_sentence():
    pools = [{"device": "card", "count": 64}, {"device": "card", "count": 64}]
    (one,) = [line for line in told(fleet(*pools, device=[A910])) if line.startswith("card:")]

    assert "inferred from ascend-910b2" in one
    assert "share of the peak in matmul is not published" in one


def test_of_a_device_that_is_published_nothing_is_assumed():
    assert not [line for line in told(fleet(H100)) if line.startswith("h100-sxm")]


def test_a_range_of_devices_without_a_deadline_is_said_to_be_slow():
    slow = "Without a deadline the cheapest may be slow: of a range of devices, few cost least."

    assert slow in told(fleet(A100))
    assert slow not in told(fleet(H100))


def test_a_device_without_fp8_computes_in_bf16_and_that_is_said():
    fp8 = LITE.model_copy(update={"precision": "fp8"})

    assert "a compute in bf16, having no fp8." in told(fleet({**A100, "count": 64}), fp8)
    assert not [line for line in told(fleet(H100), fp8) if "no fp8" in line]


def test_pools_with_the_same_failures_share_a_sentence():
    lines = told(fleet(H100, {**A100, "count": 64, "failures_per_device_day": 0.1}))

    assert [line for line in lines if line.startswith("a: 0.0027 failures of a device a day, 10 minutes")]
