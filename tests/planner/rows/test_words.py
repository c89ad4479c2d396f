"""Free text that changes a prediction."""

import pytest

from everyflop.planner.rows.words import words_of


def said(notes: str, software: str = ""):
    return words_of({"notes": notes, "software": software})


@pytest.mark.parametrize(
    "text",
    [
        "MoE: forced-balanced, dropless",
        "token drop CF=1",
        "tokendrop",
        "capacity factor 1",
        "capacity 1.0; vocab not given",
        "balanced routing",
        "experts padded to capacity",
    ],
)
def test_experts_are_balanced_where_the_notes_say_so(text):
    assert said(text).balanced


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dropless",
        "imbalanced routing",
        "unbalanced experts",
        "not balanced",
        "no token drop",
        "without capacity",
        "real (not force-balanced) routing",
        "forced-balanced: no",
        "aux-loss load-balanced routing",
        "HBM capacity 80 GB",
        "host memory capacity of 2 TB",
        "capacity factor: none",
    ],
)
def test_experts_are_not_balanced_where_that_is_denied_or_unsaid(text):
    assert not said(text).balanced


@pytest.mark.parametrize(
    ("text", "compiled"),
    [("torch.compile", True), ("compile + float8 linears", True), ("no torch.compile", False), ("not compiled", False)],
)
def test_a_compiler_counts_unless_denied(text, compiled):
    assert said(text).compiled is compiled


@pytest.mark.parametrize(
    ("text", "mtp"),
    [
        ("MTP on (per recipe)", True),
        ("1 MTP layer", True),
        ("w/o MTP", False),
        ("no MTP", False),
        ("MTP off", False),
        ("MTP=0", False),
        ("MTP: none", False),
        ("MTP not used", False),
        ("excluding MTP", False),
    ],
)
def test_a_layer_for_the_next_but_one_token_counts_unless_denied(text, mtp):
    assert said(text).mtp is mtp


def test_one_denial_does_not_deny_another_mention():
    assert said("release notes: no MTP before 26.02; MTP on here").mtp


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        ("", True),
        ("EP A2A overlap", True),
        ("overlap features off", False),
        ("no overlap", False),
        ("overlap disabled", False),
        ("tp-comm-overlap disabled", False),
        ("overlap: off", False),
        ("without comm overlap", False),
        ("overlap not enabled", False),
        ("TP overlap off; EP overlap on", True),
    ],
)
def test_communication_overlaps_unless_said_otherwise(text, overlaps):
    assert said(text).overlaps is overlaps


def test_a_power_limit_is_read_with_its_watts():
    assert said("H100 96 GB, 500W limit").power_limit_w == 500
    assert said("700 W power limit").power_limit_w == 700
    assert said("power limit 450 W").power_limit_w == 450
    assert said("").power_limit_w is None


def test_the_software_column_is_read_too():
    assert said("", software="torchtitan, compile").compiled
