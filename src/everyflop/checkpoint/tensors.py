"""Tensors in safetensors files, through torch's distributed checkpoint (DCP).

DCP brings resharding when a run changes its layout; on one process it needs no process group. Its storage holds flat
names of tensors only: a Python int would be saved and could not be loaded, so scalars belong in the state instead.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.planner import ReadItem, WriteItem

from everyflop.base.errors import DamagedFile
from everyflop.base.progress import Bar, OpenProgress, quiet
from everyflop.base.units import GIB
from everyflop.checkpoint.manifest import TensorInfo

MAX_FILE_BYTES = 2 * GIB  # DCP builds a whole file in memory before it writes it


def dtype_name(dtype: torch.dtype) -> str:
    """Return "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], *, progress: OpenProgress = quiet
) -> dict[str, TensorInfo]:
    """Write tensors of any device into safetensors files and return what was written where.

    The headers are read again and compared with what was meant; DamagedFile if the disk tells another story.
    """
    numbers = _file_numbers(tensors)
    writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=numbers, thread_count=1)
    with _plain_errors(), progress("Writing", total=len(tensors), unit="tensors") as bar:
        dcp.save(_separate(tensors), storage_writer=writer, planner=_CountWritten(bar), no_dist=True)
    n_files = max(numbers.values(), default=0)
    meant = {
        name: TensorInfo(
            dtype_name(tensor.dtype), tuple(tensor.shape), f"model-{numbers[name]:05d}-of-{n_files:05d}.safetensors"
        )
        for name, tensor in tensors.items()
    }
    written = read_headers(folder)
    if wrong := sorted(name for name in meant.keys() | written.keys() if meant.get(name) != written.get(name)):
        raise DamagedFile(f"{folder}: read back differently than written: {', '.join(wrong)}. Check this disk.")
    return meant


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Read names, dtypes and shapes from the headers of all safetensors files in a folder.

    Raises DamagedFile when a file is cut short or has no readable header.
    """
    try:
        stored = HuggingFaceStorageReader(str(folder)).read_metadata().storage_data or {}
    except SafetensorError as error:
        raise DamagedFile(f"a tensor file in {folder} cannot be read: {error}") from None
    return {
        index.fqn: TensorInfo(dtype_name(info.dtype), tuple(info.shape), Path(info.relative_path).name)
        for index, info in stored.items()
    }


def read_tensors(folder: Path, into: Mapping[str, Tensor], *, progress: OpenProgress = quiet) -> None:
    """Fill tensors in place from the files of a folder; names, dtypes and shapes must match those stored.

    Raises DamagedFile when a file cannot be read.
    """
    read_headers(folder)  # names the trouble with a header, which DCP would hide behind an assertion
    reader = HuggingFaceStorageReader(str(folder))
    with _plain_errors(), progress(f"Reading {folder.name}", total=len(into), unit="tensors") as bar:
        dcp.load(dict(into), storage_reader=reader, planner=_CountRead(bar), no_dist=True)


class _CountWritten(DefaultSavePlanner):
    """Tells a bar of each tensor that DCP hands to a file."""

    def __init__(self, bar: Bar):
        super().__init__()
        self._bar = bar

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        self._bar.advance()
        return super().resolve_data(write_item)


class _CountRead(DefaultLoadPlanner):
    """Tells a bar of each tensor that DCP has read."""

    def __init__(self, bar: Bar):
        super().__init__()
        self._bar = bar

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        self._bar.advance()


def _file_numbers(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Assign tensors to files 1, 2, ...: each kind (model, exp_avg, ...) in files of its own, none too large.

    A reader of the weights alone then reads no more than the headers of the optimizer's files.
    """
    numbers: dict[str, int] = {}
    number, filled_bytes, previous_kind = 0, 0, None
    for name in sorted(tensors):
        kind = name.partition(".")[0]
        if kind != previous_kind or filled_bytes + tensors[name].nbytes > MAX_FILE_BYTES:
            number, filled_bytes, previous_kind = number + 1, 0, kind
        numbers[name] = number
        filled_bytes += tensors[name].nbytes
    return numbers


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make tensors contiguous and give each its own memory: safetensors refuses views and tied weights."""
    storages: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Let the cause of a DCP failure through: DCP wraps even an OSError in a class that is no Exception."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
