from pathlib import Path

import pytest

from everyflop.base.errors import InvalidFile, Problem, UsageError
from everyflop.spec.read import read_run

GOOD = """\
[run]
name = "tiny"

[model]
family = "ling-v2"
hidden = 64
n_layers = 2
n_heads = 4
n_kv_heads = 2
head_dim = 16
n_experts = 8
experts_per_token = 2
expert_width = 32

[train]
tokens = "1M"
seq_len = 128
batch_tokens = 1024
"""


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(GOOD)
    return path


def problems_with(path: Path, *overrides: str, **options: bool) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFile) as caught:
        read_run(path, overrides, **options)
    return caught.value.problems


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_good_file_is_read_with_counts_as_people_write_them(run_file: Path):
    run = read_run(run_file)

    assert (run.run.name, run.train.tokens, run.train.seq_len) == ("tiny", 1_000_000, 128)
    assert run.model is not None
    assert run.model.score == "sigmoid"  # the family's


def test_a_missing_run_file_says_how_to_get_one(tmp_path: Path):
    with pytest.raises(UsageError, match="everyflop init"):
        read_run(tmp_path / "run.toml")


def test_text_that_is_no_toml_is_refused_with_its_line(run_file: Path):
    change(run_file, 'name = "tiny"', "name = tiny")

    (problem,) = problems_with(run_file)

    assert "line 2" in problem.found


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one(run_file: Path):
    change(run_file, "n_experts = 8", "n_experts = 8\nn_expertz = 8")

    assert problems_with(run_file) == (
        Problem("model.n_expertz", "is no known key", "did you mean n_experts?", line=12),
    )


def test_a_key_in_the_wrong_table_is_sent_to_its_own(run_file: Path):
    change(run_file, "[train]", "[train]\nweight_decay = 0.1")

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.hint, problem.line) == ("train.weight_decay", "it belongs in optim.weight_decay", 16)


def test_an_unknown_table_is_named(run_file: Path):
    change(run_file, "[train]", "[optimm]\nlr = 1\n[train]")

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.hint, problem.line) == ("optimm", "did you mean optim?", 15)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seq_len = 128", 'seq_len = "long"', "train.seq_len"),
        ("seq_len = 128", "seq_len = 12.5", "train.seq_len"),
        ("seq_len = 128", "seq_len = true", "train.seq_len"),
        ("hidden = 64", "hidden = []", "model.hidden"),
        ("hidden = 64", "hidden = -64", "model.hidden"),
        ('name = "tiny"', "name = 5", "run.name"),
        ('name = "tiny"', 'name = "../tiny"', "run.name"),
        ('"ling-v2"', '"ling-v9"', "model.family"),
    ],
)
def test_a_wrong_value_is_quoted_with_its_key_and_line(run_file: Path, old: str, new: str, key: str):
    change(run_file, old, new)
    line = run_file.read_text()[: run_file.read_text().index(new)].count("\n") + 1

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.line) == (key, line)
    assert "found" in problem.found


def test_a_missing_key_is_named_with_the_line_of_its_table(run_file: Path):
    change(run_file, 'tokens = "1M"\n', "")

    assert problems_with(run_file) == (Problem("train.tokens", "is missing", "add tokens to [train]", line=15),)


def test_a_missing_table_is_named_by_the_key_it_should_hold(run_file: Path):
    run_file.write_text(GOOD[: GOOD.index("[train]")])

    assert problems_with(run_file) == (Problem("train.tokens", "is missing", "add tokens to [train]"),)


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("batch_tokens = 1024", "batch_tokens = 1000", "train.batch_tokens", "not a multiple of seq_len = 128"),
        ("n_kv_heads = 2", "n_kv_heads = 3", "model.n_heads", "not divisible by n_kv_heads = 3"),
        ("experts_per_token = 2", "experts_per_token = 9", "model.experts_per_token", "exceeds n_experts = 8"),
        ("seq_len = 128", "seq_len = 65536", "train.batch_tokens", "not a multiple of seq_len = 65536"),
        ('tokens = "1M"', "tokens = 512", "train.batch_tokens", "not one step fits"),
        (
            "hidden = 64",
            "hidden = 64\nvocab_size = 300\n[data]\nvocab_size = 512\n[model.x]",
            "model.vocab_size",
            "512",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_named_with_both_values(run_file: Path, old: str, new: str, key: str, said: str):
    change(run_file, old, new)

    found = {problem.key: problem.found for problem in problems_with(run_file)}

    assert said in found[key]


def test_a_negative_price_is_refused(run_file: Path):
    change(run_file, "[train]", "[money]\nprice_per_device_hour = -1\n[train]")

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.line) == ("money.price_per_device_hour", 16)
    assert "greater than or equal to 0, found -1" in problem.found


def test_the_message_lists_every_problem_on_its_own_line(run_file: Path):
    change(run_file, "hidden = 64", 'hidden = "wide"')
    change(run_file, "[train]", "[train]\nseq_lne = 1")

    with pytest.raises(InvalidFile) as caught:
        read_run(run_file)

    lines = str(caught.value).splitlines()
    assert lines[0] == f"{run_file}: 2 problems"
    assert lines[1].startswith("  - line 6, model.hidden: ")
    assert lines[2] == "  - line 16, train.seq_lne: is no known key (did you mean seq_len?)"


def test_misfits_of_several_tables_are_reported_at_once(run_file: Path):
    change(run_file, "batch_tokens = 1024", "batch_tokens = 1000")
    change(run_file, "n_kv_heads = 2", "n_kv_heads = 3")
    change(run_file, "[train]", '[optim]\nbetas = [0.9, 1.5]\n[data]\nvocab_size = 512\ntokenizer = "t.json"\n[train]')

    keys = {problem.key for problem in problems_with(run_file, files=False)}

    assert keys == {"train.batch_tokens", "model.n_heads", "optim.betas", "data.vocab_size"}


def test_a_wrong_type_in_a_table_does_not_hide_that_its_other_values_do_not_fit(run_file: Path):
    change(run_file, "batch_tokens = 1024", "batch_tokens = 1000\nvalidate_windows = []")

    assert {p.key for p in problems_with(run_file)} == {"train.batch_tokens", "train.validate_windows"}


def test_an_unknown_key_does_not_hide_a_misfit_of_the_key_of_the_same_name(run_file: Path):
    change(run_file, "batch_tokens = 1024", "batch_tokens = 1000\n[optim]\nbatch_tokens = 5")

    assert {p.key for p in problems_with(run_file)} == {"train.batch_tokens", "optim.batch_tokens"}


def test_nothing_is_said_about_values_that_stand_in_for_wrong_ones(run_file: Path):
    change(run_file, "n_experts = 8", "n_experts = []")  # how should 2 of how many experts be chosen?
    change(run_file, "seq_len = 128", "seq_len = []")  # and what divides the batch?

    assert {p.key for p in problems_with(run_file)} == {"model.n_experts", "train.seq_len"}


@pytest.mark.parametrize("betas", ['["a", 0.9]', "[0.9]", "[]", "[[], []]", '"ab"'])
def test_a_bad_entry_of_a_list_is_reported_beside_everything_else(run_file: Path, betas: str):
    change(run_file, "batch_tokens = 1024", f"batch_tokens = 1000\n[optim]\nbetas = {betas}")

    keys = {problem.key.split("[")[0] for problem in problems_with(run_file)}

    assert keys == {"train.batch_tokens", "optim.betas"}


def test_an_entry_of_an_array_of_tables_is_cited_with_its_own_line(run_file: Path):
    sets = '[[data.validation]]\nname = "a"\nsources = "python-stdlib"\n'
    change(run_file, "[train]", f"{sets}{sets.replace('name', 'nam')}[train]")

    problems = problems_with(run_file)

    assert [(p.key, p.line) for p in problems] == [("data.validation[1].name", 18), ("data.validation[1].nam", 19)]


# --- presets and weights to start from ---


def test_a_preset_is_expanded_and_the_users_fields_win(run_file: Path):
    run_file.write_text('[model]\npreset = "ling-mini-2.0"\nn_layers = 4\n[train]\ntokens = "1B"\n')

    model = read_run(run_file).model

    assert model is not None
    assert (model.hidden, model.n_experts, model.n_layers) == (2048, 256, 4)


def test_an_unknown_preset_is_named_with_the_nearest_one_beside_other_problems(run_file: Path):
    run_file.write_text('[model]\npreset = "ling-mini-2"\nhiden = 3\n[train]\ntokens = 0\n')

    problems = {problem.key: problem for problem in problems_with(run_file)}

    assert set(problems) == {"model.preset", "model.hiden", "train.tokens"}
    assert "did you mean 'ling-mini-2.0'?" in problems["model.preset"].found
    assert problems["model.preset"].line == 2


def test_a_run_may_take_its_model_from_weights_alone(run_file: Path):
    run_file.write_text('[model]\ninit_from = "hf"\n[train]\ntokens = "1M"\n')

    run = read_run(run_file, files=False)

    assert run.model is None
    assert run.init_from == "hf"


def test_a_run_without_a_model_is_refused(run_file: Path):
    run_file.write_text('[train]\ntokens = "1M"\n')

    assert [problem.key for problem in problems_with(run_file)] == ["model"]


def test_init_from_outside_of_model_is_sent_there(run_file: Path):
    run_file.write_text(f'init_from = "hf"\n{GOOD}')

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.hint, problem.line) == ("init_from", "it belongs in model.init_from", 1)


def test_init_from_of_a_wrong_type_is_cited_where_it_is_written(run_file: Path):
    change(run_file, "[model]", "[model]\ninit_from = 5")

    (problem,) = problems_with(run_file)

    assert (problem.key, problem.line) == ("model.init_from", 5)


@pytest.mark.parametrize(("data", "vocab"), [("", 4096), ("[data]\nvocab_size = 1000\n", 1000)])
def test_the_model_takes_its_vocabulary_from_the_tokenizer_to_be_trained(run_file: Path, data: str, vocab: int):
    run_file.write_text(GOOD + data)

    model = read_run(run_file).model

    assert model is not None
    assert model.vocab_size == vocab


# --- overrides ---


def test_overrides_win_over_the_file(run_file: Path):
    run = read_run(run_file, ["train.tokens=2M", "run.name=other", "optim.lr=1e-3", "train.batch_tokens = 256"])

    assert (run.train.tokens, run.run.name, run.optim.lr, run.train.batch_tokens) == (2_000_000, "other", 1e-3, 256)


def test_a_problem_of_an_override_cites_no_line_of_the_file(run_file: Path):
    problems = problems_with(run_file, "train.batch_tokens=1000", "train.sed=1", "train.seq_len=x")

    assert {(problem.key, problem.line) for problem in problems} == {("train.sed", None), ("train.seq_len", None)}


def test_a_misfit_with_an_override_cites_the_line_of_the_other_key(run_file: Path):
    (problem,) = problems_with(run_file, "train.seq_len=100")

    assert (problem.key, problem.line) == ("train.batch_tokens", 18)


def test_what_is_no_override_is_listed_with_the_other_problems(run_file: Path):
    change(run_file, "hidden = 64", "hidden = 0")

    keys = [problem.key for problem in problems_with(run_file, "tokens=5", "train.tokens", "run.name.x=1")]

    assert keys == ["tokens=5", "train.tokens", "run.name.x", "model.hidden"]


# --- files that the run names ---


def test_missing_files_are_listed_with_everything_else(run_file: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(run_file, "hidden = 64", "hidden = 0\ninit_from = 'no-weights'")
    change(run_file, "[train]", "[data]\nsources = ['python-stdlib', 'no.txt']\ntokenizer = 'no.json'\n[train]")

    problems = problems_with(run_file)

    assert {(problem.key, problem.line) for problem in problems} == {
        ("model.hidden", 6),
        ("model.init_from", 7),
        ("data.sources[1]", 17),
        ("data.tokenizer", 18),
    }
    assert problems[-1].hint == "relative paths start at the current directory"


def test_a_run_directory_is_read_without_its_files(run_file: Path):
    change(run_file, "[train]", "[data]\nsources = 'gone'\n[train]")

    assert read_run(run_file, files=False).data.sources[0].path == "gone"


def test_weights_that_a_run_started_from_may_be_gone_once_it_has_its_own(run_file: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(run_file, "hidden = 64", "hidden = 64\ninit_from = 'no-weights'")
    assert [problem.key for problem in problems_with(run_file)] == ["model.init_from"]
    (tmp_path / read_run(run_file, files=False).dir / "checkpoints" / "step-00000001").mkdir(parents=True)

    assert read_run(run_file).init_from == "no-weights"


@pytest.mark.parametrize("bad", ['"a\\u0000b"', '"~nosuchuser/x"'])
def test_what_can_be_no_folder_is_named(run_file: Path, bad: str):
    assert [problem.key for problem in problems_with(run_file, f"run.out_dir={bad}")] == ["run.out_dir"]


def test_a_number_of_thousands_of_digits_is_no_toml(run_file: Path):
    change(run_file, "hidden = 64", f"hidden = {'9' * 5000}")

    assert [problem.key for problem in problems_with(run_file)] == ["TOML"]


def test_a_file_that_is_nested_too_deep_is_no_toml(run_file: Path):
    run_file.write_text("x = " + "[" * 100_000)

    assert [problem.key for problem in problems_with(run_file)] == ["TOML"]


@pytest.mark.parametrize("weight", ["1e308", "1e-320"])
def test_weights_of_sources_are_numbers_that_can_be_compared(run_file: Path, weight: str):
    change(run_file, "[train]", f"[data]\nsources = [{{ path = 'python-stdlib', weight = {weight} }}]\n[train]")

    assert [problem.key for problem in problems_with(run_file)] == ["data.sources[0].weight"]
