"""docs/file_formats.md says what a run reads and writes: all of it, and nothing else."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from everyflop.base.files import read_lines
from everyflop.checkpoint import list_checkpoints, open_checkpoint
from everyflop.spec.data import DataSpec, SourceSpec, ValidationSpec
from everyflop.spec.islands import IslandSpec
from everyflop.spec.model import ModelSpec, YarnSpec
from everyflop.spec.plan import Plan
from everyflop.spec.run import RunSpec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "file_formats.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]}
CODE = re.compile(r"`([^`]*)`")


def table(section: str) -> dict[str, str]:
    """Return the rows of a section's table: first cell -> second cell."""
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", SECTIONS[section], re.MULTILINE)
    return dict(rows[1:])


def names(cell: str) -> set[str]:
    return set(CODE.findall(cell))


def files_named(section: str) -> set[str]:
    return {name for cell in table(section) for name in names(cell)}


def files_in(folder: Path) -> set[str]:
    """Return what lies in a folder; of checkpoints and of TensorBoard's folder only that they are there."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    paths = {re.sub(r"checkpoints/step-\d+/.*", "checkpoints/step-00000100/", path) for path in paths}
    return {re.sub(r"tensorboard/.*", "tensorboard/", path) for path in paths if path != ".lock"}


@pytest.fixture(scope="module")
def run_dir(everyflop, write_run_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    changes = {"model": {"n_mtp_layers": 1, "mtp_loss_weight": 0.3}, "data": {"prepared_dir": str(folder / "prepared")}}
    ended = everyflop("train", write_run_file(folder, **changes))

    assert ended.code == 0, ended.err
    return folder / "runs" / "tiny"


def test_every_table_of_a_run_file_is_listed():
    sections = set(RunSpec.model_fields) - {"init_from"}  # written in [model]

    assert {f"`[{name}]`" for name in sections} | {"`[[data.validation]]`", "a source"} == set(table("Run file"))


@pytest.mark.parametrize(
    ("row", "spec"),
    [
        *(
            (f"`[{name}]`", RunSpec.model_fields[name].annotation)
            for name in RunSpec.model_fields
            if name not in ("init_from", "model", "data", "island")
        ),
        ("`[island]`", IslandSpec),
        ("`[data]`", DataSpec),
        ("`[[data.validation]]`", ValidationSpec),
        ("a source", SourceSpec),
    ],
)
def test_every_key_of_a_run_file_is_listed_and_no_other(row, spec):
    assert names(table("Run file")[row]) == set(spec.model_fields)


def test_every_key_of_a_model_is_listed_and_no_other():
    rows = table("The model's own keys")

    assert names(rows.pop("`[model.yarn]`")) == set(YarnSpec.model_fields)
    assert set().union(*map(names, rows.values())) == set(ModelSpec.model_fields)
    assert names(table("Run file")["`[model]`"]) == {"preset", "init_from"}


def test_a_run_writes_every_file_that_is_listed_and_no_other(run_dir):
    assert files_in(run_dir) == files_named("Run directory")


def test_every_metric_that_is_written_is_listed_and_no_other(run_dir):
    lines = read_lines(run_dir / "metrics.jsonl")
    listed = names(table("Run directory")["`metrics.jsonl`"]) | {"schema"}

    assert [line for line in lines if line.keys() != listed] == []


def test_the_keys_named_of_a_summary_are_in_it(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    validation = next(iter(summary["validation"].values()))

    assert names(table("Run directory")["`summary.json`"]) <= summary.keys() | validation.keys()


def test_a_checkpoint_holds_every_file_that_is_listed_and_no_other(run_dir):
    newest = list_checkpoints(run_dir / "checkpoints")[-1]
    found = {re.sub(r"model-\d+", "model-00001", path.name) for path in newest.iterdir()}

    assert found == files_named("Checkpoint")


def test_a_checkpoint_holds_tensors_of_every_kind_that_is_listed_and_no_other(run_dir):
    tensors = open_checkpoint(list_checkpoints(run_dir / "checkpoints")[-1]).tensors
    kinds = {name.partition(".")[0] + ".*" for name in tensors}

    assert kinds == names(table("Checkpoint")["`model-00001-of-00004.safetensors`"])


def test_prepared_data_has_every_file_that_is_listed_and_no_other(run_dir):
    folder = Path(json.loads((run_dir / "summary.json").read_text())["data"])
    stored = {name.replace("stories", "SOURCE").replace("held_out", "SET") for name in files_in(folder)}

    assert {re.sub(r"SOURCE\d+", "SOURCE", name) for name in stored} == files_named("Prepared data")


def test_every_file_of_a_format_of_ours_carries_a_schema(run_dir):
    of_others = {"tokenizer.json", "model.safetensors.index.json", "model.json"}
    files = [path for path in run_dir.rglob("*.json") if path.name not in of_others]
    records = [json.loads(path.read_text()) for path in files]
    records += [line for path in run_dir.glob("*.jsonl") for line in read_lines(path)]
    records += [tomllib.loads(path.read_text()) for path in run_dir.rglob("run.toml")]

    assert [record for record in records if "schema" not in record] == []


def test_every_key_of_a_plan_is_listed_and_no_other():
    listed = {name for cell in table("Plan") for name in names(cell)}

    assert listed == {field.alias or name for name, field in Plan.model_fields.items()}
