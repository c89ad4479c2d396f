"""What is to be trained, from how a user says it: a published model's name or a run file, and what is asked besides."""

import difflib
import shlex
from dataclasses import dataclass
from pathlib import Path

from everyflop.accounting.laws import default_batch_tokens, law_note, training_compute
from everyflop.base.errors import UsageError
from everyflop.base.units import short_count
from everyflop.spec.base import Misfit
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset, preset_names
from everyflop.spec.read import read_run
from everyflop.spec.workload import Precision, Workload

SEQ_LEN = 4096

NO_RUN_FILE = "run.toml"
"""What the run file is called that a published model still needs."""

LEAST_STEPS = 10
"""Optimizer steps of a run."""

MOST_ROUNDED_SHARE = 0.03
"""A batch from the law is rounded by less than this, to divide well."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A workload, and how commands are told the same."""

    workload: Workload
    measure_option: str
    """For `everyflop measure`."""
    run_file: str
    """For `everyflop train`."""
    notes: tuple[str, ...]
    """What was taken from a law, and what run_file is where there is none, in sentences."""


def workload_of(
    model: str,
    *,
    tokens: int | None = None,
    seq_len: int | None = None,
    batch_tokens: int | None = None,
    precision: Precision = "bf16",
) -> Asked:
    """Return what is to be trained. A run file gives what is not asked; tokens and batch else come from laws.

    Raises UsageError for a model that is neither a preset nor a run file, or sizes that do not fit each other.
    """
    is_file = model.endswith(".toml")
    spec, given = _from_run(model) if is_file else (_preset(model), {})
    seq_len = seq_len or given.get("seq_len") or min(SEQ_LEN, spec.max_positions)
    tokens, batch_tokens = tokens or given.get("tokens"), batch_tokens or given.get("batch_tokens")
    notes: list[str] = []
    if tokens is None:
        tokens = optimal_tokens(spec)
        notes.append(f"No --tokens given: {short_count(tokens)} are compute-optimal for this model by the MoE laws.")
    if batch_tokens is None:
        batch_tokens = round_batch(default_batch_tokens(spec, tokens, seq_len) // seq_len) * seq_len
        law = law_note(training_compute(spec, tokens))
        notes.append(f"No batch given: {short_count(batch_tokens)} tokens a step are best by the MoE laws. {law}")
    workload = Workload.model_construct(
        name=Path(model).stem if is_file else model,
        model=spec,
        tokens=tokens,
        seq_len=seq_len,
        batch_tokens=batch_tokens,
        precision=precision,
    )
    if misfits := [*workload.misfits(), *_too_few_steps(workload)]:
        raise UsageError("; ".join(f"{key} {what}" for key, what in misfits) + ". Change one of them.")
    if not is_file:
        notes.append(
            f'{NO_RUN_FILE} in the launch command is for you to write: [model] preset = "{model}", [train] with these '
            f"tokens and seq_len, your text in [data]; `everyflop init {NO_RUN_FILE}` gives one to change."
        )
    option = f"--run {shlex.quote(model)}" if is_file else f"--model {model}"
    return Asked(workload, option, model if is_file else NO_RUN_FILE, tuple(notes))


def _too_few_steps(workload: Workload) -> list[Misfit]:
    if workload.tokens // workload.batch_tokens in range(1, LEAST_STEPS):
        batch, tokens = short_count(workload.batch_tokens), short_count(workload.tokens)
        said = f"{batch} of {tokens} are less than {LEAST_STEPS} steps, in which nothing is learned"
        return [("batch_tokens", said)]
    return []


def launch_command(run_file: str, plan_file: str) -> str:
    """Return the command that runs a plan, as a shell takes it."""
    return shlex.join(["everyflop", "train", run_file, "--plan", plan_file])


def optimal_tokens(spec: ModelSpec) -> int:
    """Return the tokens of the run for which this model has the compute-optimal size (arXiv 2507.17702).

    tokens = 5.2232 C^0.4905 where C = 6 x active parameters x tokens, solved for the tokens.
    """
    per_token = training_compute(spec, 1)
    return round((5.2232 * per_token**0.4905) ** (1 / (1 - 0.4905)))


def round_batch(batch_seqs: int) -> int:
    """Return a batch near this one that a large power of two divides."""
    unit = 1
    while 2 * unit <= MOST_ROUNDED_SHARE * batch_seqs:
        unit *= 2
    return max(round(batch_seqs / unit), 1) * unit


def _from_run(file: str) -> tuple[ModelSpec, dict[str, int | None]]:
    run = read_run(file, files=False)
    if run.model is None:
        raise UsageError(
            f"{file} takes its model from init_from, which planning does not read: name a preset in [model] instead."
        )
    train = run.train
    return run.model, {"tokens": train.tokens, "seq_len": train.seq_len, "batch_tokens": train.batch_tokens}


def _preset(name: str) -> ModelSpec:
    if name in preset_names():
        return preset(name)
    if Path(name).exists():
        kind = "a folder" if Path(name).is_dir() else "a file that does not end in .toml"
        raise UsageError(
            f"'{name}' is {kind}, and --model takes a run file (ending in .toml) or a published model: "
            f"{', '.join(preset_names())}. To plan a model of yours, write its sizes into [model] of a run file; "
            "weights are not needed."
        )
    near = difflib.get_close_matches(name, preset_names(), n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise UsageError(
        f"there is no model '{name}'. {hint}Give a run file (ending in .toml) or a published model: "
        f"{', '.join(preset_names())}."
    )
