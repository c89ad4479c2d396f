"""docs/predict.md says which constants, priors and columns predictions have."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

from everyflop.accounting import memory
from everyflop.planner.predict import predict
from everyflop.planner.predict.predict_rows import COLUMNS
from everyflop.planner.rows import cells as known_cells
from everyflop.planner.rows import file, line, model, sizes
from everyflop.planner.rows.words import words_of
from everyflop.planner.speed import chip, software

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")


def table(heading: str) -> dict[str, str]:
    """Return the rows of the table whose first heading this is: first cell -> second cell."""
    lines = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("|").split("|") for line in lines]
    return {first.strip(): second.strip() for first, second, *_ in cells}


def weighted(prior: tuple[tuple[float, str | int], ...]) -> str:
    return ", ".join(f"`{x}` {weight:g}" if isinstance(x, str) else f"{x} {weight:g}" for weight, x in prior)


def test_the_constants_are_the_fitted_ones():
    text = files("everyflop.catalog").joinpath("efficiency.toml").read_text(encoding="utf-8")
    fitted = {f"`{name}`": f"{value:.3g}" for name, value in tomllib.loads(text)["constants"].items()}

    assert table("constant") == fitted


def test_blank_cells_are_filled_as_the_code_does():
    blank = table("blank")

    assert blank["`recompute`"] == weighted(line.RECOMPUTE_PRIOR)
    assert blank["`micro_batch`"].partition(";")[0] == weighted(line.MICRO_BATCH_PRIOR)
    assert blank["`vpp`, where `pp` is above 1"] == weighted(line.VIRTUAL_STAGES_PRIOR)
    assert blank["`global_batch_seqs`"].startswith(f"{line.SEQS_PER_STAGE} sequences")
    assert f"gets {line.REAL_IMBALANCE:g} times" in blank["routing, with experts"]
    assert blank["`seq_len`"] == f"{line.USUAL_SEQ_LEN:,}"
    assert blank["`n_devices`"].startswith(f"{line.USUAL_DEVICES},")
    assert blank["`sharding`"] == f"`{line.USUAL_SHARDING}`"


def test_blank_sizes_of_a_model_are_filled_as_the_code_does():
    blank = table("blank")

    assert f"heads of {sizes.HEAD_DIM} channels" in blank["`heads`, `kv_heads`"]
    assert blank["`vocab`, `ffn`"] == f"{sizes.VOCAB:,}; {sizes.FFN_OVER_HIDDEN} times `hidden`"
    assert blank["`topk`, `expert_ffn`"].startswith(f"{sizes.EXPERTS_PER_TOKEN}, or all experts")
    assert sizes.EXPERT_OVER_HIDDEN == 0.25
    assert f"{sizes.UNKNOWN_PARAMS_B:g} x 10^9" in blank["`layers`, `hidden`"]
    assert f"within {model.WRONG_COUNT:.0%}".replace("%", " %") in PAGE


def test_models_that_are_known_by_name_are_named():
    sentence = next(line for line in PAGE.splitlines() if line.startswith("A `model` whose name"))
    latent = re.findall(r"DeepSeek V2|Kimi|Moonlight|MLA", sentence)

    assert len(latent) == 4
    assert all(line.MLA_MODELS.search(name) for name in latent)
    assert f"GPT-OSS every other layer sees {line.WINDOW} tokens" in sentence
    assert line.WINDOWED_MODELS.search("GPT-OSS")
    assert line.WINDOWED_SHARE == 0.5


def test_every_column_that_is_read_is_listed_and_no_other():
    listed = {name for cell in table("columns in") for name in CODE.findall(cell)}
    read = {*known_cells.NUMBERS, *file.NEEDED, "id", "model", "kind", *known_cells.WORDS}

    assert listed == read | {"software", "notes"}


def test_every_word_of_a_cell_is_listed():
    cells = table("columns in")

    for column, known in known_cells.WORDS.items():
        written = CODE.findall(cells[f"`{column}`"])
        assert {known_cells.word_of({column: word}, column) for word in written} == set(known)


def test_every_column_that_is_written_is_listed_in_order():
    assert tuple(name for cell in table("column out") for name in CODE.findall(cell)) == COLUMNS


def test_the_words_that_count_do_count():
    words = {cell: CODE.findall(cell) for cell in table("words in `software` or `notes`")}
    no_overlap, compiled, power, balanced, mtp = words.values()

    assert not any(words_of({"notes": word}).overlaps for word in no_overlap)
    assert all(words_of({"notes": word}).compiled for word in compiled)
    assert [words_of({"notes": word}).power_limit_w for word in power] == [650, 650]
    assert all(words_of({"notes": word}).balanced for word in balanced)
    assert all(words_of({"notes": word}).mtp for word in mtp)


def test_the_words_that_deny_do_deny():
    sentence = next(line for line in PAGE.splitlines() if line.startswith("A word counts unless"))
    before, after = (CODE.findall(part) for part in sentence.split(" stands before it"))

    assert (len(before), len(after)) == (5, 5)
    assert not any(words_of({"notes": f"{word} MTP"}).mtp for word in before)
    assert not any(words_of({"notes": f"MTP {word}"}).mtp for word in after)


def test_software_is_of_the_stack_that_is_said():
    sentence = next(line for line in PAGE.splitlines() if line.startswith("In `software`"))
    megatron, torch, xla = sentence.partition(": ")[2].split("; ")

    for kind, part, end in (("megatron", megatron, " have "), ("torch", torch, " are "), ("xla", xla, " is ")):
        for name in re.split(r", | and ", part.partition(end)[0]):
            assert software.stack_of(software.software_of(name)) == kind, name
    assert software.stack_of("never heard of") == "megatron"


def test_the_figures_of_memory_are_those_of_the_code():
    assert f"{memory.BF16} + {memory.FP32} + {memory.MASTER_AND_MOMENTS} bytes a parameter" in PAGE
    assert f"{memory.LOGIT_BYTES} bytes each through the loss, {memory.TORCH_LOGIT_BYTES} with zero3" in PAGE
    assert f"{memory.FRAGMENTATION_SHARE:.0%}".replace("%", " %") + " of activations and logits" in PAGE
    assert memory.SELECTIVE_SHARE == 0.5
    assert memory.GATHERED_LAYERS == 2
    assert memory.CONTEXT_GIB == 1.0
    assert f"{chip.USABLE_MEM_SHARE:.0%}".replace("%", " %") + " of a device's memory" in PAGE


def test_measured_means_what_the_code_means():
    assert f"at most {predict.NEAR_LOG_SD:.0%}".replace("%", " %") in table("basis")["`measured`"]


def test_the_example_is_what_the_command_prints(everyflop, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    example = PAGE.partition("The last of these prints, shortened:\n\n```text\n")[2].partition("```")[0]

    out = everyflop("explain", "recipes/rows.csv", "--only", "h100-ep8").out
    printed = {"...", *map(str.rstrip, out.splitlines())}

    assert [line for line in example.splitlines() if line not in printed] == []
