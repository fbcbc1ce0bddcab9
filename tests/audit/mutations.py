"""Faults to put into a clean run: one function each, with the class that it stands for.

They are refused in `test_mutations.py`, and counted by `python -m tests.audit.table`.
"""

from __future__ import annotations

from tests.audit import artifact_mutations, record_mutations, text_mutations
from tests.audit.faults import listed

RUN_MUTATIONS = [
    *listed(text_mutations),
    *listed(artifact_mutations),
    *listed(record_mutations),
]
