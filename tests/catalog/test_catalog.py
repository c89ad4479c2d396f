"""Finding devices, adding a user's own, and the quotes beside them, on a catalogue of two."""

import pytest

from everyflop.base.errors import UsageError
from everyflop.catalog.catalog import Catalog
from everyflop.spec.device import DeviceSpec, PriceQuote

FAST = DeviceSpec(name="fast-80g", title="Acme Fast 80GB", aliases=("Fast",), vendor="Acme", bf16_tflops=900, mem_gb=80)
SLOW = DeviceSpec(name="slow", vendor="Other Ltd", bf16_tflops=100)


def quote(day: str, device: str = "fast-80g", price: float = 2.0) -> PriceQuote:
    return PriceQuote(device=device, per_device_hour=price, currency="USD", date=day, source="a list")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog({"fast-80g": FAST, "slow": SLOW}, (quote("2025-02"), quote("2026-01-05"), quote("2026-02", "slow")))


@pytest.mark.parametrize(
    "name", ["fast-80g", "FAST 80G", "fast_80g", "Fast", "Acme Fast 80GB", "acme-fast", "Acme Fast"]
)
def test_case_spaces_dashes_underscores_and_the_vendor_in_front_make_no_difference(catalog, name):
    assert catalog.find(name) is FAST
    assert name in catalog


def test_an_unknown_device_is_refused_with_the_nearest_names(catalog):
    with pytest.raises(UsageError, match=r"no device 'fasd': did you mean fast-80g\?"):
        catalog.find("fasd")


def test_a_name_unlike_any_other_is_refused_with_what_to_do(catalog):
    with pytest.raises(
        UsageError, match=r"no device 'xyzzy': `everyflop catalog list` shows all, and a \[\[device\]\]"
    ):
        catalog.find("xyzzy")


def test_a_name_outranks_another_devices_alias():
    named = DeviceSpec(name="fast", vendor="Other Ltd")

    assert Catalog({"fast-80g": FAST, "fast": named}).find("Fast") is named


def test_a_users_new_device_is_found_by_its_name_and_aliases(catalog):
    own = DeviceSpec(name="mine", aliases=("My Chip",), vendor="Me", bf16_tflops=50)

    assert catalog.with_devices([own]).find("my-chip") == own
    assert "mine" not in catalog


def test_a_users_entry_for_a_known_device_replaces_the_given_fields_only(catalog):
    changed = catalog.with_devices([DeviceSpec(name="fast-80g", bf16_tflops=850, notes="measured here")])

    assert changed.find("fast") == FAST.model_copy(update={"bf16_tflops": 850, "notes": "measured here"})


def test_an_entry_under_an_alias_changes_the_device_of_that_alias(catalog):
    changed = catalog.with_devices([DeviceSpec(name="fast", mem_gb=96)])

    assert set(changed.devices) == {"fast-80g", "slow"}
    assert changed.find("fast-80g").mem_gb == 96


def test_a_users_device_may_be_like_another_of_the_users(catalog):
    mine = [DeviceSpec(name="one", vendor="Me", like="two"), DeviceSpec(name="two", vendor="Me", like="slow")]

    assert catalog.problems_with(mine) == []


def test_repeating_a_devices_own_alias_is_no_mistake(catalog):
    assert catalog.problems_with([DeviceSpec(name="fast-80g", aliases=("Fast", "Faster"))]) == []


def test_everything_wrong_with_a_users_devices_is_named_at_once(catalog):
    wrong = [
        DeviceSpec(name="fasd-80g"),
        DeviceSpec(name="two", vendor="Me", like="slowe", aliases=("Acme Fast",)),
    ]

    with pytest.raises(UsageError) as refused:
        catalog.with_devices(wrong)
    assert str(refused.value).splitlines() == [
        "device[0].vendor: is missing, and the catalogue has no device 'fasd-80g' (did you mean fast-80g?)",
        "device[1].like: names 'slowe', which is no device of the catalogue (did you mean slow?)",
        "device[1].aliases: 'Acme Fast' means fast-80g already (choose another)",
    ]


def test_quotes_of_a_device_come_newest_first(catalog):
    assert [str(q.date) for q in catalog.quotes("Fast")] == ["2026-01-05", "2025-02"]


def test_quotes_stay_when_devices_are_added(catalog):
    assert catalog.with_devices([DeviceSpec(name="fast", mem_gb=96)]).quotes("fast") == catalog.quotes("fast")


def test_the_digest_changes_with_a_figure_and_with_no_quote(catalog):
    changed = catalog.with_devices([DeviceSpec(name="slow", bf16_tflops=101)])

    assert catalog.sha256() == Catalog({"slow": SLOW, "fast-80g": FAST}).sha256()
    assert catalog.sha256() != changed.sha256()
    assert len(catalog.sha256()) == 64
