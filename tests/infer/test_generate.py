import pytest
import torch

from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.infer.generate import draw, generate
from everyflop.model.build import build_model
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

VOCAB = 40
PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def model() -> CausalLM:
    sizes = {"vocab_size": VOCAB, "hidden": 16, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8}
    experts = {"n_experts": 4, "experts_per_token": 2, "expert_width": 8}
    # A deviation of 1 makes a model of strong opinions: no two logits tie.
    spec = ModelSpec(family="ling-v2", **sizes, **experts, init_std=1.0, max_positions=32)
    return build_model(spec, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)


def written(model: CausalLM, prompt=PROMPT, max_tokens: int = 20, **options) -> list[int]:
    return list(generate(model, prompt, max_tokens=max_tokens, **options))


def test_greedy_text_equals_recomputation_without_a_cache(model):
    ids = list(PROMPT)
    for _ in range(20):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))

    assert written(model) == ids[len(PROMPT) :]
    assert len(set(ids)) > 3  # no loop on one token, which a broken cache might get right


def test_text_goes_on_until_max_tokens(model):
    assert len(written(model, max_tokens=7)) == 7


def test_the_same_seed_gives_the_same_text(model):
    options = {"temperature": 5.0, "top_p": 0.9}

    assert written(model, seed=1, **options) == written(model, seed=1, **options)
    assert len({tuple(written(model, seed=seed, **options)) for seed in range(5)}) == 5


def test_drawing_elsewhere_does_not_change_the_text(model):
    one = written(model, temperature=5.0, seed=1)
    torch.manual_seed(99)

    assert written(model, temperature=5.0, seed=1) == one


def test_text_stops_at_the_stop_token_and_leaves_it_out(model):
    whole = written(model)
    stop = whole[5]

    assert written(model, stop_ids={stop}) == whole[: whole.index(stop)]


def test_tokens_come_one_at_a_time(model):
    stream = generate(model, PROMPT, max_tokens=20)

    assert [next(stream), next(stream)] == written(model)[:2]


def test_no_gradients_are_kept(model):
    seen = []
    handle = model.norm.register_forward_hook(lambda _, __, y: seen.append(y.requires_grad))

    written(model, max_tokens=2)
    handle.remove()

    assert seen == [False, False]
    assert torch.is_grad_enabled()


def test_a_prompt_that_fills_the_last_position_with_its_text_is_fine(model):
    assert len(written(model, max_tokens=27)) == 27  # 5 + 27 = 32 positions


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        ([], 5, "the prompt has no tokens"),
        ([3, VOCAB], 5, "token 40 is not in the model's vocabulary of 40"),
        ([-1], 5, "token -1 is not in the model's vocabulary"),
        (PROMPT, 28, "5 prompt tokens and 28 new ones exceed the model's 32 positions"),
    ],
    ids=["empty", "past the vocabulary", "negative", "no room"],
)
def test_what_cannot_be_continued_is_refused(model, prompt, max_tokens, message):
    with pytest.raises(UsageError, match=message):
        written(model, prompt, max_tokens)


def shares(probabilities: list[float], *, temperature: float = 1.0, top_p: float = 1.0, n: int = 4000) -> list[float]:
    """Draw n times from the logits of these probabilities, and return how often each id came."""
    logits, random = torch.tensor(probabilities).log(), torch.Generator().manual_seed(0)
    ids = torch.tensor([draw(logits, temperature, top_p, random) for _ in range(n)])
    return (ids.bincount(minlength=len(probabilities)) / n).tolist()


def test_ids_are_drawn_by_their_probability():
    # A share of n = 4000 draws spreads by at most 0.5 / sqrt(n) = 0.008.
    assert shares([0.1, 0.5, 0.4]) == pytest.approx([0.1, 0.5, 0.4], abs=0.03)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.45, [0, 1, 0, 0]),  # 0.5 alone holds it
        (0.55, [0, 5 / 8, 0, 3 / 8]),  # 0.5 does not, 0.5 + 0.3 does
        (0.85, [3 / 19, 10 / 19, 0, 6 / 19]),  # 0.5 + 0.3 + 0.15
        (1.0, [0.15, 0.5, 0.05, 0.3]),
        (0.0, [0, 1, 0, 0]),  # never nothing
    ],
)
def test_top_p_keeps_the_smallest_set_that_holds_it(top_p, expected):
    found = shares([0.15, 0.5, 0.05, 0.3], top_p=top_p)

    assert [share > 0 for share in found] == [share > 0 for share in expected]
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("temperature", "expected"), [(2.0, [1 / 3, 2 / 3]), (0.5, [1 / 17, 16 / 17])])
def test_temperature_divides_the_logits(temperature, expected):
    # Odds of 4 become their square root at temperature 2 and their square at 0.5.
    assert shares([0.2, 0.8], temperature=temperature) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("temperature", [1e-6, 1e-308, 5e-324])
def test_a_temperature_close_to_zero_is_greedy_and_no_nan(temperature):
    assert shares([0.2, 0.5, 0.3], temperature=temperature, n=20) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("temperature", [float("inf"), float("nan"), -1.0])
def test_a_temperature_that_is_no_finite_number_is_refused(model, temperature):
    with pytest.raises(UsageError, match=f"temperature of {temperature} "):
        written(model, temperature=temperature)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_model_that_has_diverged_says_so(model, temperature):
    broken = build_model(model.spec, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)
    with torch.no_grad():
        broken.embed.weight.fill_(float("nan"))

    with pytest.raises(ExpectedNo, match="not finite"):
        written(broken, temperature=temperature)
