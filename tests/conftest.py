"""Threads of the suite, set before torch is imported and inherited by every process it starts.

Tests run beside each other and beside other work: threads that spin while they wait for their turn
on a shared core make models this small many times slower.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "2")
# Without a GPU the fused kernels run in Triton's interpreter, which reads this when it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Whoever runs the tests may have an account; nothing is sent to it.
os.environ["WANDB_MODE"] = "offline"
