"""What is to be trained, from a name or a run file."""

import pytest
import tomli_w

from everyflop.base.errors import UsageError
from everyflop.planner.plan.workloads import launch_command, optimal_tokens, workload_of
from everyflop.spec.presets import preset


@pytest.fixture
def run_file(tiny_tables, tmp_path):
    """Write the tiny run, of 3,072 tokens in sequences of 32 and batches of 256."""

    def write(**changes):
        path = tmp_path / "mine.toml"
        path.write_text(tomli_w.dumps(tiny_tables(**changes)))
        return str(path)

    return write


def test_a_published_model_is_trained_on_what_is_asked():
    asked = workload_of("ling-plus", tokens=10**12, batch_tokens=8960 * 4096)

    assert asked.workload.model == preset("ling-plus")
    assert (asked.workload.tokens, asked.workload.seq_len, asked.workload.batch_seqs) == (10**12, 4096, 8960)
    assert [note.split(":")[0] for note in asked.notes] == ["run.toml in the launch command is for you to write"]
    assert asked.measure_option == "--model ling-plus"


def test_a_run_file_gives_tokens_sequence_and_batch(run_file):
    path = run_file()
    asked = workload_of(path)

    assert (asked.workload.tokens, asked.workload.seq_len, asked.workload.batch_tokens) == (3072, 32, 256)
    assert asked.workload.name == "mine"
    assert asked.run_file == path
    assert asked.notes == ()


def test_the_launch_command_is_quoted_as_a_shell_needs_it():
    assert launch_command("run.toml", "plan.json") == "everyflop train run.toml --plan plan.json"
    assert launch_command("a b.toml", "x;y.json") == "everyflop train 'a b.toml' --plan 'x;y.json'"


def test_what_is_asked_counts_more_than_the_run_file(run_file):
    assert workload_of(run_file(), tokens=6144).workload.tokens == 6144


def test_a_batch_that_nobody_gives_is_the_laws_rounded_to_divide_well():
    # The law's batch for Ling-1T on 20 T tokens is 18,251 sequences; 18,144 were used.
    asked = workload_of("ling-1t", tokens=20 * 10**12)

    assert asked.workload.batch_seqs == pytest.approx(18_251, rel=0.03)
    assert asked.workload.batch_seqs % 256 == 0
    assert any("best by the MoE laws" in note for note in asked.notes)


def test_tokens_that_nobody_gives_are_compute_optimal_and_that_is_said():
    asked = workload_of("ling-lite")

    assert asked.workload.tokens == optimal_tokens(preset("ling-lite"))
    assert any("compute-optimal" in note for note in asked.notes)


def test_compute_optimal_tokens_are_those_of_the_law():
    # arXiv 2507.17702: at C FLOP, 5.2232 C^0.4905 tokens are best; C is 6 x active parameters x tokens.
    spec = preset("ling-mini-2.0")
    tokens = optimal_tokens(spec)
    compute = 6 * 1.433e9 * tokens  # Ling-mini-2.0 has 1.433 B active parameters

    assert tokens == pytest.approx(5.2232 * compute**0.4905, rel=1e-3)


@pytest.mark.parametrize("name", ["ling-plsu", "nothing-like-it"])
def test_an_unknown_model_is_refused_with_what_is_known(name):
    with pytest.raises(UsageError, match="ling-plus"):
        workload_of(name)


@pytest.mark.parametrize(("path", "told"), [("hf", "is a folder"), ("hf/config.json", "does not end in .toml")])
def test_a_model_that_is_on_disk_but_no_run_file_is_told_what_is_taken(tmp_path, path, told):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")

    with pytest.raises(UsageError, match=rf"{told}, and --model takes a run file .* ling-plus"):
        workload_of(str(tmp_path / path))


def test_a_run_without_a_model_of_its_own_is_refused(run_file, tmp_path):
    (tmp_path / "weights").mkdir()
    nothing = dict.fromkeys(
        (
            "family",
            "hidden",
            "n_layers",
            "dense_layers",
            "dense_width",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "n_experts",
            "experts_per_token",
            "expert_width",
            "n_shared_experts",
            "max_positions",
        )
    )

    with pytest.raises(UsageError, match="init_from"):
        workload_of(run_file(model={**nothing, "init_from": str(tmp_path / "weights")}))


@pytest.mark.parametrize(
    ("tokens", "batch_tokens", "told"),
    [(9 * 10**18, None, "no collection of text"), (10**12, 10**12 // 4096 * 4096, "less than 10 steps")],
)
def test_a_run_that_cannot_be_meant_is_refused(tokens, batch_tokens, told):
    with pytest.raises(UsageError, match=told):
        workload_of("ling-lite", tokens=tokens, batch_tokens=batch_tokens)


def test_sizes_that_do_not_fit_are_all_named():
    with pytest.raises(UsageError, match=r"batch_tokens .* seq_len "):
        workload_of("ling-plus", tokens=10**9, seq_len=99_999, batch_tokens=1000)
