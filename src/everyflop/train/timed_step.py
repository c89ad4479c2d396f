"""A run's training step on random tokens of a fixed seed, one at a time: exactly the loop's, for all that time it."""

import time

from everyflop.backend.device import Device, synchronize
from everyflop.backend.memory import forget_peak
from everyflop.train.random_windows import random_windows
from everyflop.train.session import build_run_model, build_session
from everyflop.train.settings import Settled
from everyflop.train.update import attempt_step


class TimedStep:
    """Trains a fresh model, a step at each call. Raises ExpectedNo where the device's memory is too small."""

    def __init__(self, settled: Settled, device: Device):
        forget_peak(device.torch)
        seq_len = settled.run.train.seq_len
        self.device, self.lr = device, settled.peak_lr
        self.session = build_session(settled, build_run_model(settled, device), device)
        self.session.progress.step = settled.run.router.noise_warmup_steps  # the steps before are few and slower
        self.batch = random_windows(settled.model.vocab_size, settled.batch_tokens // seq_len, seq_len=seq_len)

    def __call__(self) -> tuple[float, float]:
        """Do a step; return its seconds and its loss."""
        began_s = time.perf_counter()
        loss = attempt_step(self.session, self.batch, lr=self.lr).loss
        synchronize(self.device.torch)
        return time.perf_counter() - began_s, loss
