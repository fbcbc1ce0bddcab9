"""Schedules: pure functions of progress (0 at the budget's start, 1 at its end) or of the step."""

from __future__ import annotations


def lr_warmdown(progress: float, *, warmdown_frac: float) -> float:
    """Multiplier of all learning rates: 1, then linear to 0 over the last warmdown_frac."""
    if warmdown_frac <= 0.0:
        return 1.0
    return max(0.0, min(1.0, (1.0 - progress) / warmdown_frac))


def recurrence_on(progress: float, start_frac: float) -> bool:
    """Whether the recurrence runs: from start_frac of the budget on."""
    return progress >= start_frac


def ema_decay(step: int, decay: float, ramp: bool) -> float:
    """Decay of the average at a step (from 0); with the ramp min(decay, (1+t)/(10+t)).

    Without the ramp an average of few steps is still mostly the initial weights.
    """
    return min(decay, (1 + step) / (10 + step)) if ramp else decay


def linear_warmup(step: int, *, start: float, end: float, warmup_steps: int) -> float:
    """From `start` at step 0 linearly to `end` at warmup_steps, then `end` (Muon's momentum)."""
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps
