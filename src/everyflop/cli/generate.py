"""`everyflop generate`: continue a text."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    path: Annotated[Path, typer.Argument(metavar="CKPT_OR_HF_DIR", help="A checkpoint, run or HF directory.")],
    prompt: Annotated[str, typer.Option(help="The text to continue; empty starts a new document.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add at most.")] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Draw from the likeliest tokens that hold this much probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Same seed, same text.")] = 0,
) -> None:
    """Continue a text with a trained model, token by token as they come.

    everyflop generate runs/tiny --prompt "def main(" --max-tokens 100
    everyflop generate tiny-hf --prompt "Once" --temperature 0.8 --top-p 0.95
    """
    from everyflop.backend.device import detect
    from everyflop.data.tokenizer import load_tokenizer
    from everyflop.infer.generate import generate as generate_ids
    from everyflop.infer.load import begin_id, end_ids, load_model, tokenizer_file

    _check_text(prompt)
    model = load_model(path).to(detect().torch)
    tokenizer = load_tokenizer(tokenizer_file(path))
    first = begin_id(path)
    ids = [tokenizer.eot_id if first is None else first, *tokenizer.encode([prompt])[0].tolist()]
    new_ids = generate_ids(
        model,
        tuple(ids),
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop_ids={tokenizer.eot_id, *end_ids(path)},
    )
    print(prompt, end="", flush=True)
    shown = tokenizer.decode([ids])[0]  # decoded with the prompt, as some tokenizers strip a text's first space
    for chosen in new_ids:
        ids.append(chosen)
        text = tokenizer.decode([ids])[0]
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half of a character: wait for the rest
            print(text[len(shown) :], end="", flush=True)
            shown = text
    print(tokenizer.decode([ids])[0][len(shown) :])


def _check_text(prompt: str) -> None:
    from everyflop.base.errors import UsageError

    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the prompt is no UTF-8 text ({error.reason} at {error.start}). Convert it first.") from None
