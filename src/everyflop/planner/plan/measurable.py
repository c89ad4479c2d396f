"""What `everyflop measure` could time of a model on one device: the same layers, fewer of them, with fewer experts."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from pydantic import ValidationError

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.accounting.parameters import count_parameters
from everyflop.base.units import GIGA
from everyflop.planner.choose.search import Training
from everyflop.planner.predict.predict import Hardware, predict
from everyflop.planner.speed.calibration import Evidence
from everyflop.spec.device import DeviceSpec
from everyflop.spec.layout import Layout
from everyflop.spec.model import ModelSpec

STATE_BYTES_PER_PARAMETER = 16
"""fp32 weights, gradients and two moments."""
STATE_SHARE = 0.6
"""Of the memory; the rest is for activations."""
LAYERS = (4, 2, 1)
BATCH_SEQS, SEQ_LEN = 4, 4096
"""What `everyflop measure --model` trains in one step, one sequence at a time."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """A model cut down to one device, and the overrides that do it."""

    model: ModelSpec
    overrides: tuple[str, ...]


def reduced(model: ModelSpec, device: DeviceSpec) -> Reduced | None:
    """Return the largest cut of a model that trains on one device; None where not even one layer does."""
    most = (device.mem_gb or 0) * GIGA * STATE_SHARE / STATE_BYTES_PER_PARAMETER
    halvings = [model.n_experts >> halving for halving in range(model.n_experts.bit_length())]
    vocabularies = [model.vocab_size >> halving for halving in range(4)]  # the last resort
    whole = Reduced(model, ())
    cuts = [_cut(model, *sizes) for sizes in product(vocabularies, halvings, LAYERS)]
    for candidate in [whole, *(cut for cut in cuts if cut is not None)]:
        count = count_parameters(candidate.model)
        if count.total + count.mtp <= most:
            return candidate
    return None


def step_evidence(training: Training, model: ModelSpec, device: DeviceSpec) -> Evidence:
    """Return what the calibration would know of the measured step."""
    prediction = predict(
        dims_of(model),
        Hardware(device, 1, 1.0),  # one device: nothing is sent
        Layouts.of([Layout(sharding="none")]),
        seq_len=SEQ_LEN,
        batch_seqs=np.array([BATCH_SEQS]),
        predictor=training.predictor,
    )
    return prediction.evidence


def _cut(model: ModelSpec, vocab: int, experts: int, layers: int) -> Reduced | None:
    changes: dict[str, object] = {}
    if layers < model.n_layers:
        changes["n_layers"] = layers
        if any(layer >= layers for layer in model.dense_layers):
            changes["dense_layers"] = [layer for layer in model.dense_layers if layer < layers - 1]
    if experts < model.n_experts:
        changes["n_experts"] = experts
    if vocab < model.vocab_size:
        changes["vocab_size"] = vocab
    if model.n_mtp_layers:
        changes["n_mtp_layers"] = 0
    try:
        cut = ModelSpec.model_validate({**model.model_dump(), **changes})
    except ValidationError:
        return None
    return Reduced(cut, tuple(f"model.{key}={value}".replace(" ", "") for key, value in changes.items()))
