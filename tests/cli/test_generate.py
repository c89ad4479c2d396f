"""Text from a model that knows nothing: what is printed is checked against the ids that `infer` yields."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from everyflop.checkpoint import save
from everyflop.data.tokenizer import Tokenizer, train_tokenizer
from everyflop.infer.generate import generate
from everyflop.model.build import build_model
from everyflop.model.hf.save import save_hf
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

TEXTS = ["the quick brown fox jumps over the lazy dog", "füchse springen über träge hunde, 狐狸跳过懒狗"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=300)


@pytest.fixture(scope="module")
def model(tokenizer) -> CausalLM:
    sizes = {"vocab_size": tokenizer.vocab_size, "hidden": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1}
    experts = {"n_experts": 4, "experts_per_token": 2, "expert_width": 8}
    spec = ModelSpec(family="ling-v2", head_dim=8, max_positions=64, init_std=1.0, **sizes, **experts)
    return build_model(spec, seed=0, device=torch.device("cpu"), compute_dtype=torch.float32)


@pytest.fixture(scope="module")
def run_dir(model, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    files = {"model.json": model.spec.model_dump_json().encode(), "tokenizer.json": tokenizer.content}
    save(folder / "checkpoints", 1, tensors=tensors, state={}, files=files, keep=1)
    return folder


def expected_text(model: CausalLM, tokenizer: Tokenizer, prompt: str, max_tokens: int, **options) -> str:
    ids = [tokenizer.eot_id, *tokenizer.encode([prompt])[0].tolist()]
    drawn = list(generate(model, ids, max_tokens=max_tokens, stop_ids={tokenizer.eot_id}, **options))
    return prompt + tokenizer.decode([drawn])[0] + "\n"


def test_the_prompt_and_its_likeliest_continuation_are_printed(everyflop, run_dir, model, tokenizer):
    done = everyflop("generate", run_dir, "--prompt", "the quick", "--max-tokens", 20)

    assert done.code == 0
    assert done.out == expected_text(model, tokenizer, "the quick", 20)
    assert len(done.out) > len("the quick\n")


def test_a_published_model_begins_with_what_its_config_says(everyflop, model, tokenizer, tmp_path):
    save_hf(model, tmp_path, dtype=torch.float32)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bos_token_id": 7, "eos_token_id": 0}))
    ids = [7, *tokenizer.encode(["the quick"])[0].tolist()]
    drawn = list(generate(model, ids, max_tokens=20, stop_ids={tokenizer.eot_id}))
    done = everyflop("generate", tmp_path, "--prompt", "the quick", "--max-tokens", 20)

    assert done.code == 0, done.err
    assert done.out == "the quick" + tokenizer.decode([drawn])[0] + "\n"
    assert done.out != expected_text(model, tokenizer, "the quick", 20)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 2**63 - 1])
def test_options_reach_the_drawing_and_pieces_of_characters_wait_for_the_rest(
    everyflop, run_dir, model, tokenizer, seed
):
    options = {"temperature": 3.0, "top_p": 0.95, "seed": seed}

    arguments = [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), value)]
    done = everyflop("generate", run_dir, "--prompt", "狐狸", "--max-tokens", 40, *arguments)

    assert done.out == expected_text(model, tokenizer, "狐狸", 40, **options)


def test_a_tokenizer_that_strips_the_first_space_keeps_those_of_the_continuation(everyflop, model, tmp_path):
    words = {"<|endoftext|>": 0, **{f"\N{LOWER ONE EIGHTH BLOCK}w{i}": i for i in range(1, model.spec.vocab_size)}}
    core = Core(models.WordLevel(words, unk_token="<|endoftext|>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    files = {"model.json": model.spec.model_dump_json().encode(), "tokenizer.json": core.to_str().encode()}
    save(tmp_path, 1, tensors=tensors, state={}, files=files, keep=1)

    done = everyflop("generate", tmp_path, "--prompt", "w5", "--max-tokens", 6)

    drawn = generate(model, [0, 5], max_tokens=6, stop_ids={0})
    assert done.out == "w5" + "".join(f" w{i}" for i in drawn) + "\n"
    assert done.out.count(" ") > 1


def test_an_empty_prompt_starts_a_new_document(everyflop, run_dir, model, tokenizer):
    assert everyflop("generate", run_dir, "--max-tokens", 5).out == expected_text(model, tokenizer, "", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-tokens", 64], "exceed the model's 64 positions"),
        (["--max-tokens", 0], "--max-tokens"),
        (["--top-p", 1.5], "--top-p"),
        (["--temperature", -1], "--temperature"),
        (["--max-tokens", 5, "--temperature", "inf"], "temperature of inf"),
        (["--max-tokens", 5, "--temperature", "nan"], "--temperature"),
        (["--prompt", "caf\udce9"], "the prompt is no UTF-8 text"),
        (["--seed", -1], "--seed"),
        (["--seed", 2**63], "--seed"),
    ],
)
def test_impossible_options_are_named_and_exit_with_2(everyflop, run_dir, arguments, message):
    done = everyflop("generate", run_dir, *arguments)

    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_drawing_with_a_top_p_of_zero_takes_the_likeliest(everyflop, run_dir, model, tokenizer):
    done = everyflop("generate", run_dir, "--max-tokens", 5, "--temperature", 1, "--top-p", 0)

    assert done.out == expected_text(model, tokenizer, "", 5)


def test_a_path_without_a_model_exits_with_2(everyflop, tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        done = everyflop("generate", path)

        assert done.code == 2
        assert str(path) in done.err
        assert not done.out


def test_a_checkpoint_without_a_tokenizer_exits_with_2(everyflop, model, tmp_path):
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    files = {"model.json": model.spec.model_dump_json().encode()}
    path = save(tmp_path, 1, tensors=tensors, state={}, files=files, keep=1)

    done = everyflop("generate", path)

    assert done.code == 2
    assert "has no tokenizer.json" in done.err


def test_a_published_models_text_ends_at_any_of_the_tokens_that_it_names(everyflop, model, tokenizer, tmp_path):
    save_hf(model, tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)
    ids = [tokenizer.eot_id, *tokenizer.encode(["the"])[0].tolist()]
    drawn = list(generate(model, ids, max_tokens=8))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [drawn[3], tokenizer.eot_id]}))

    out = everyflop("generate", tmp_path, "--prompt", "the", "--max-tokens", "8").out

    before = drawn[: drawn.index(drawn[3])]
    assert out.rstrip("\n") == tokenizer.decode([[*ids, *before]])[0]
