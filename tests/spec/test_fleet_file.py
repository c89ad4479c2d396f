import re
from pathlib import Path

import pytest

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.catalog.load import load_catalog
from everyflop.spec.exchange import ExchangeSpec
from everyflop.spec.fleet import Fleet
from everyflop.spec.fleet_file import read_fleet
from everyflop.spec.pool import Pool

CATALOG = load_catalog()
RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "fleets"

GOOD = """\
[[pool]]
name = "h100"
device = "h100-sxm"
count = 512
price_per_device_hour = 2.8
currency = "USD"

[[pool]]
name = "mine"
device = "home-made"
count = [8, 64]
price_per_device_hour = 0.9
currency = "USD"

[[link]]
between = ["h100", "mine"]
gbit_per_s = 100

[[device]]
name = "home-made"
vendor = "us"
bf16_tflops = 100
mem_gb = 48

[[measured]]
device = "home-made"
date = 2026-09-16
source = "our log"
model = "ling-lite"
seq_len = 4096
batch_tokens = 32768
tokens_per_s_per_device = 1234
"""


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(GOOD)
    return path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def problems_with(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFile) as caught:
        read_fleet(path, catalog=CATALOG)
    assert caught.value.exit_code == 2
    return caught.value.problems


def read(path: Path) -> Fleet:
    return read_fleet(path, catalog=CATALOG)


def test_a_good_file_is_read(fleet_file: Path):
    fleet = read(fleet_file)

    assert [(pool.name, pool.count) for pool in fleet.pools] == [("h100", (512, 512)), ("mine", (8, 64))]
    assert fleet.links[0].between == ("h100", "mine")
    assert fleet.devices[0].mem_gb == 48
    assert fleet.measured[0].date == "2026-09-16"


def test_a_fleet_without_a_name_has_that_of_its_file(fleet_file: Path):
    assert read(fleet_file).name == "my"

    fleet_file.write_text(f'name = "September"\n{GOOD}')
    assert read(fleet_file).name == "September"


def test_a_missing_file_says_where_to_start(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read the fleet file .*no\.toml.* recipes/fleets"):
        read(tmp_path / "no.toml")


def test_a_file_of_a_newer_everyflop_is_refused(fleet_file: Path):
    fleet_file.write_text(f"schema = 2\n{GOOD}")

    assert problems_with(fleet_file) == (
        Problem("schema", "is 2, and this version reads 1", "update everyflop", line=1),
    )


def test_a_file_without_pools_says_what_a_pool_has(fleet_file: Path):
    fleet_file.write_text('name = "empty"\n')

    (problem,) = problems_with(fleet_file)

    assert (problem.key, problem.found) == ("pool", "is missing")
    assert "count = 512" in problem.hint


def test_a_run_file_is_not_taken_for_a_fleet(fleet_file: Path):
    fleet_file.write_text('[model]\npreset = "ling-lite"\n[train]\ntokens = "1M"\n')

    assert {problem.key for problem in problems_with(fleet_file)} == {"pool", "model", "train"}


def test_problems_are_listed_in_the_order_of_the_file(fleet_file: Path):
    change(fleet_file, "mem_gb = 48", "mem_gb = 48e9")
    change(fleet_file, "gbit_per_s = 100", "gbit_per_s = 0")
    change(fleet_file, "h100-sxm", "h100-smx")

    assert [(problem.line, problem.key) for problem in problems_with(fleet_file)] == [
        (3, "pool[0].device"),
        (17, "link[0].gbit_per_s"),
        (23, "device[0].mem_gb"),
    ]


def test_a_percentage_is_written_as_a_share(fleet_file: Path):
    change(fleet_file, "count = 512", "count = 512\nmax_share = 40")

    (problem,) = problems_with(fleet_file)

    assert (problem.key, problem.hint) == ("pool[0].max_share", "it looks like a percentage: write 0.4")


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("[[link]]", "[[links]]", "did you mean link?"),
        ("count = 512", "count = 512\ncounts = 5", "did you mean count?"),
        ("count = 512", "count = 512\nlatency_ms = 5", "it belongs in link.latency_ms"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known(fleet_file: Path, old: str, new: str, hint: str):
    change(fleet_file, old, new)

    assert hint in [problem.hint for problem in problems_with(fleet_file)]


# --- prices ---


@pytest.mark.parametrize(
    ("price", "said", "hint"),
    [
        ("", "is missing", "a price is never invented; `everyflop catalog show DEVICE`"),
        ("price_per_device_hour = -2.8", "greater than 0, found -2.8", "a price is never invented"),
        ("price_per_device_hour = 0", "greater than 0, found 0", "their power"),
        ('price_per_device_hour = "cheap"', "found 'cheap'", "a price is never invented"),
        ("price_per_device_hour = nan", "finite number", "a price is never invented"),
        ("price_per_device_hour = 25000", "25000 USD is not plausible", "a year's by 8,760"),
    ],
)
def test_a_price_that_is_none_is_a_problem_with_a_way_out(fleet_file: Path, price: str, said: str, hint: str):
    change(fleet_file, "price_per_device_hour = 2.8", price)

    (problem,) = problems_with(fleet_file)

    assert problem.key == "pool[0].price_per_device_hour"
    assert said in problem.found
    assert hint in problem.hint


def test_a_price_in_a_currency_without_a_rate_is_a_problem_on_its_line(fleet_file: Path):
    change(fleet_file, 'currency = "USD"', 'currency = "CNY"')
    fleet_file.write_text(fleet_file.read_text() + '[money]\ncurrency = "USD"\n')

    (problem,) = problems_with(fleet_file)

    assert (problem.key, problem.line) == ("pool[0].currency", 6)
    assert "set money.rates.CNY, how many USD one CNY is" in problem.found


def test_a_wrong_rate_is_one_problem_and_not_one_for_each_price(fleet_file: Path):
    change(fleet_file, 'currency = "USD"', 'currency = "CNY"')
    fleet_file.write_text(fleet_file.read_text() + '[money]\ncurrency = "USD"\nrates = { CNY = -1 }\n')

    assert [problem.key for problem in problems_with(fleet_file)] == ["money.rates.CNY"]


def test_a_key_that_is_no_currency_is_named_among_the_rates(fleet_file: Path):
    fleet_file.write_text(GOOD + "[money]\nrates = { yuan = 7.1 }\n")

    (problem,) = problems_with(fleet_file)

    assert problem.key == "money.rates.yuan"


# --- devices ---


def test_an_unknown_device_is_named_with_the_nearest_known(fleet_file: Path):
    change(fleet_file, "h100-sxm", "h100-smx")

    (problem,) = problems_with(fleet_file)

    assert (problem.key, problem.line) == ("pool[0].device", 3)
    assert "did you mean h100-sxm" in problem.found


def test_a_device_may_be_called_by_any_name_of_the_catalogue(fleet_file: Path):
    change(fleet_file, "h100-sxm", "H100 SXM5 80GB")

    assert read(fleet_file).pools[0].device == "H100 SXM5 80GB"


def test_a_device_of_ones_own_is_near_too(fleet_file: Path):
    change(fleet_file, 'device = "home-made"', 'device = "home-mad"')

    (problem,) = problems_with(fleet_file)

    assert problem.key == "pool[1].device"
    assert "did you mean home-made" in problem.found


def test_a_device_of_ones_own_is_known_even_where_its_figures_are_wrong(fleet_file: Path):
    change(fleet_file, "mem_gb = 48", "mem_gb = -48")

    assert [problem.key for problem in problems_with(fleet_file)] == ["device[0].mem_gb"]


def test_a_new_device_needs_a_vendor(fleet_file: Path):
    change(fleet_file, 'vendor = "us"\n', "")

    assert [problem.key for problem in problems_with(fleet_file)] == ["device[0].vendor"]


def test_a_known_device_needs_only_the_figures_that_change(fleet_file: Path):
    fleet_file.write_text(GOOD + '[[device]]\nname = "h100-sxm"\nmem_gb = 96\n')

    assert read(fleet_file).devices[1].mem_gb == 96


def test_a_speed_of_an_unknown_device_is_a_problem(fleet_file: Path):
    change(fleet_file, '[[measured]]\ndevice = "home-made"', '[[measured]]\ndevice = "whatever"')

    assert [problem.key for problem in problems_with(fleet_file)] == ["measured[0].device"]


# --- recipes ---


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_is_a_fleet_without_figures_left_to_guess(recipe: Path):
    fleet = read(recipe)

    assert all(pool.example for pool in fleet.pools) or "arXiv" in recipe.read_text()


def test_the_ling_recipe_has_the_papers_devices_and_prices():
    fleet = read(RECIPES / "ling_table.toml")

    assert fleet.currency == "CNY"
    assert {pool.name: pool.price_per_device_hour for pool in fleet.pools} == {
        **{"a": 7.0, "b": 4.5, "c": 10.0, "d": 27.5, "e": 5.64}
    }
    assert [CATALOG.find(pool.device).name for pool in fleet.pools] == [f"ling-{pool.name}" for pool in fleet.pools]


def test_the_mixed_recipe_has_three_vendors_and_two_currencies():
    fleet = read(RECIPES / "mixed_example.toml")

    assert {CATALOG.find(pool.device).vendor for pool in fleet.pools} == {"NVIDIA", "AMD", "Huawei"}
    assert {pool.currency or fleet.currency for pool in fleet.pools} == {"USD", "CNY"}


def test_the_values_that_a_recipe_shows_as_defaults_are_the_defaults(fleet_file: Path):
    text = (RECIPES / "mixed_example.toml").read_text()
    shown, _, _ = text.partition("# [[device]]")
    fleet_file.write_text(re.sub(r"^# (?=\[islands\]|[a-z_]+ = )", "", shown, flags=re.MULTILINE))

    pool, hidden = read(fleet_file).pools[0], read(RECIPES / "mixed_example.toml").pools[0]

    told = {"supplier", "devices_per_node", "scale_out_gbit_per_s"}  # the catalogue has the defaults of these
    assert pool.model_fields_set >= told | {"failures_per_device_day", "restart_minutes", "checkpoint_gb_per_s"}
    assert pool.failure_rate == hidden.failure_rate
    assert pool.model_dump(exclude=told | {"failures_per_device_day"}) == hidden.model_dump(
        exclude=told | {"failures_per_device_day"}
    )
    device = CATALOG.find(pool.device)
    assert (pool.supplier, pool.devices_per_node) == (device.vendor, device.scale_up_domain)
    assert pool.scale_out_gbit_per_s == device.scale_out_gbit_per_s
    assert read(fleet_file).islands.model_dump(exclude={"source"}) == ExchangeSpec().model_dump(exclude={"source"})


def test_a_default_pool_is_no_example():
    assert not Pool(name="a", device="x", count=(1, 1), price_per_device_hour=1.0).example


@pytest.mark.parametrize(
    ("old", "new", "key", "told"),
    [
        ("bf16_tflops = 100", 'like = "home-made"', "device[0].like", "is the device itself"),
        (
            "price_per_device_hour = 2.8",
            'price_per_device_hour = "2.8"',
            "pool[0].price_per_device_hour",
            "without quo",
        ),
        ("gbit_per_s = 100", 'gbit_per_s = "100"', "link[0].gbit_per_s", "without quotes"),
        ("count = 512", "count = 512\ndevices_per_node = 1_000_000", "pool[0].devices_per_node", "is not plausible"),
        (
            "[[link]]",
            '[money]\ncurrency = "USD"\nrates = { CNY = 7.1 }\n\n[[link]]',
            "money.rates.CNY",
            "is not worth 7.1 USD",
        ),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key(fleet_file: Path, old: str, new: str, key: str, told: str):
    change(fleet_file, old, new)

    (problem,) = problems_with(fleet_file)

    assert problem.key == key
    assert told in problem.found


@pytest.mark.parametrize(
    ("old", "new", "key", "hint"),
    [
        ("[[link]]", "[link]", "link", "write [[link]], with two brackets"),
        ("[[link]]", "[[money]]\n[[link]]", "money", "write [money], with one bracket"),
    ],
)
def test_a_header_with_the_wrong_number_of_brackets_is_told(fleet_file: Path, old: str, new: str, key: str, hint: str):
    change(fleet_file, old, new)

    assert (key, hint) in [(problem.key, problem.hint) for problem in problems_with(fleet_file)]
