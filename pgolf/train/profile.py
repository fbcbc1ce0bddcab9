"""Where a training step goes: a trace for a viewer, and its kernels by kind and by time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

# First match wins; names as cuBLAS, cuDNN, FlashAttention, NCCL and Triton give them.
KINDS = (
    ("communication", r"nccl"),
    ("attention", r"flash|fmha|cudnn|attention"),
    ("matmul", r"gemm|cutlass|nvjet|xmma|_product|cublas"),
    ("copy", r"memcpy|memset"),
)
TOP = 25


def kind_of(kernel: str) -> str:
    """Kind of a kernel by its name; whatever is no product and no attention only moves memory."""
    for kind, pattern in KINDS:
        if re.search(pattern, kernel, re.IGNORECASE):
            return kind
    return "memory-bound"


def profiled(
    work: Callable[[], Any], device: torch.device, trace: Path | None = None
) -> dict[str, Any]:
    """Run `work` once under torch's profiler.

    Args:
        work: what is measured, e.g. one training step; it is waited for.
        device: where its kernels run; on the CPU operators are counted instead.
        trace: file for a viewer (perfetto.dev), `.json` or `.json.gz`.

    Returns:
        `wall_ms`, `idle_ms` (device without a kernel), `kinds` (milliseconds by kind), `kernels`
        (the longest: name, kind, calls, milliseconds), and `result`, what `work` gave back.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        result = work()
        if on_gpu:
            torch.cuda.synchronize(device)
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    rows = _kernels(profiler, on_gpu)
    kinds: dict[str, float] = {}
    for row in rows:
        kinds[row["kind"]] = kinds.get(row["kind"], 0.0) + row["ms"]
    wall_ms = _wall_ms(profiler, on_gpu)
    return {
        "wall_ms": wall_ms,
        "idle_ms": max(0.0, wall_ms - sum(kinds.values())),
        "kinds": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "kernels": rows[:TOP],
        "result": result,
    }


def _is_kernel(event: Any, on_gpu: bool) -> bool:
    wanted = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    # Ranges that the profiler draws over kernels are no kernels of their own.
    return event.device_type == wanted and not getattr(event, "is_user_annotation", False)


def _kernels(profiler: profile, on_gpu: bool) -> list[dict[str, Any]]:
    rows = []
    for event in profiler.key_averages():
        if not _is_kernel(event, on_gpu):
            continue
        total_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        row = {"name": event.key, "kind": kind_of(event.key), "calls": event.count}
        rows.append({**row, "ms": total_us / 1e3})
    return sorted(rows, key=lambda row: -float(row["ms"]))


def _wall_ms(profiler: profile, on_gpu: bool) -> float:
    """From the first kernel's start to the last one's end."""
    spans = [e.time_range for e in profiler.events() or () if _is_kernel(e, on_gpu)]
    if not spans:
        return 0.0
    return (max(span.end for span in spans) - min(span.start for span in spans)) / 1e3


def table(found: dict[str, Any]) -> str:
    """The profile as lines of text: kinds with their share, then the longest kernels."""
    wall_ms = max(found["wall_ms"], 1e-9)
    lines = [f"{'kind':<16}{'ms':>10}{'share':>8}"]
    for kind, ms in [*found["kinds"].items(), ("idle", found["idle_ms"])]:
        lines.append(f"{kind:<16}{ms:>10.2f}{ms / wall_ms:>8.1%}")
    lines.append(f"{'from first to last kernel':<26}{wall_ms:.2f} ms")
    lines.append(f"\n{'ms':>10}{'calls':>7}  kernel")
    for row in found["kernels"]:
        lines.append(f"{row['ms']:>10.3f}{row['calls']:>7}  {row['name'][:90]}")
    return "\n".join(lines)
