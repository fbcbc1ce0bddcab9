"""No test-time training."""

from __future__ import annotations

import numpy as np
import torch

from pgolf.clock import Clock
from pgolf.data.stream import TokenStream
from pgolf.distributed import World
from pgolf.events import EventLog
from pgolf.ttt.none import NoTTT
from tests.model.tiny import tiny_recurrent, weights


def test_nothing_changes_and_the_score_stays_eligible() -> None:
    model, stream = tiny_recurrent(), TokenStream(np.ones(9, np.uint16), np.ones(9, np.uint16))
    before = weights(model)
    adapted = NoTTT().adapt(model, stream, World(), Clock({}), EventLog(None), lambda m: None)
    assert adapted.eligible and adapted.per_epoch == []
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
