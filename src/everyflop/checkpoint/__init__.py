"""Checkpoints: whole or not there, checksummed, kept a few at a time, merged."""

from everyflop.checkpoint.digest import weights_sha256
from everyflop.checkpoint.folder import find, list_checkpoints
from everyflop.checkpoint.manifest import TensorInfo, verify
from everyflop.checkpoint.merging import merge
from everyflop.checkpoint.read import Checkpoint, newest_good, open_checkpoint
from everyflop.checkpoint.write import save

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "find",
    "list_checkpoints",
    "merge",
    "newest_good",
    "open_checkpoint",
    "save",
    "verify",
    "weights_sha256",
]
