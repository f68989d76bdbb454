"""Blocks of keys on an accelerator: how many rows fit, and how far they can be trusted.

Torch's CPU serves as a device too, for tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mohs.errors import InputError, Problem
from mohs.mining.bank import CentredBank
from mohs.mining.problem import Float64, Index, MiningProblem

__all__ = [
    "FREE_SHARE",
    "WINDOW",
    "Columns",
    "DeviceRun",
    "KeyBlock",
    "check_products",
    "float32_products",
    "make_block",
    "no_room",
    "rows_per_block",
    "send_columns",
]

FREE_SHARE = 0.5
"""Share of the device's free memory that mining takes at most."""

WINDOW = 1024
"""Columns that may be left to an anchor; with more, it is mined on the CPU."""

_MAX_ROWS = 2048
_MAX_PAIRS = 2**27
_PAIR_BYTES = 16  # a key, a copy of it with some masked, and masks
_WINDOW_BYTES = 32
_PIECE = 8192  # candidates sent at once
_SLACK = 1.25  # errors are widened so that thresholds may be rounded to float32
_PROBE_ROWS, _PROBE_COLUMNS = 16, 512
_CPU_BYTES = 2 * 10**9


@final
@dataclass(frozen=True, eq=False)
class DeviceRun:
    """One run: what is mined, where, how many anchors at once, with how many threads on the host."""

    problem: MiningProblem
    bank: CentredBank
    device: torch.device
    rows: int
    threads: int

    def send(self, array: NDArray[np.float32] | NDArray[np.int32]) -> Tensor:
        """Return a copy on the device."""
        return torch.from_numpy(array).to(self.device)


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """The candidates on the device: centred rows, float32[M, D], ‖b‖²/2, float32[M], and classes, int32[M]."""

    row_MD: Tensor
    half_norm_M: Tensor
    class_M: Tensor


@final
@dataclass(frozen=True, eq=False)
class KeyBlock:
    """Keys of R anchors to all candidates.

    Attributes:
        position: of the anchors among all anchors.
        anchor_R: item indices.
        key_RM: on the device, float32; infinite where both items are of one class.
        own_RM: where that is, on the device.
        norm_R: ‖a‖ of the centred rows, float64, on the host.
        error_R: bound on the error of a key, widened by `_SLACK`.
        mean_R, spread_R: mean and standard deviation of the keys, expected.
    """

    position: slice
    anchor_R: Index
    key_RM: Tensor
    own_RM: Tensor
    norm_R: Float64
    error_R: Float64
    mean_R: Float64
    spread_R: Float64


def send_columns(run: DeviceRun) -> Columns:
    """Return the candidates of a run, sent piece by piece."""
    p, num_candidates = run.problem, len(run.problem.candidates_M)
    row_MD = torch.empty((num_candidates, p.bank_ND.shape[1]), dtype=torch.float32, device=run.device)
    for start in range(0, num_candidates, _PIECE):
        piece = slice(start, start + _PIECE)
        row_MD[piece] = run.send(run.bank.rows(p.candidates_M[piece]))
    class_M = p.class_N[p.candidates_M].astype(np.int32)
    return Columns(row_MD, run.send(run.bank.half_norm_M), run.send(class_M))


def make_block(run: DeviceRun, columns: Columns, position: slice) -> KeyBlock:
    """Return the keys of the anchors at these positions."""
    p, anchor_R = run.problem, run.problem.anchors_T[position]
    rows_RD = run.bank.rows(anchor_R)
    norm_R = np.sqrt(np.einsum("rd,rd->r", rows_RD, rows_RD, dtype=np.float64))
    mean_R, spread_R = run.bank.key_moments(rows_RD)
    key_RM = _keys(columns, run.send(rows_RD))
    own_RM = columns.class_M == run.send(p.class_N[anchor_R].astype(np.int32))[:, None]
    return KeyBlock(
        position=position,
        anchor_R=anchor_R,
        key_RM=key_RM.masked_fill_(own_RM, torch.inf),
        own_RM=own_RM,
        norm_R=norm_R,
        error_R=_SLACK * run.bank.frame.key_error(norm_R),
        mean_R=mean_R,
        spread_R=spread_R,
    )


def _keys(columns: Columns, rows_RD: Tensor) -> Tensor:
    return torch.addmm(columns.half_norm_M, rows_RD, columns.row_MD.T, alpha=-1)


def check_products(run: DeviceRun, block: KeyBlock) -> None:
    """Raise `InputError` if keys are off by more than the windows allow for: then something lowers the precision."""
    bank, p = run.bank, run.problem
    row_r = np.unique(np.linspace(0, len(block.anchor_R) - 1, _PROBE_ROWS).astype(np.int64))
    column_c = np.unique(np.linspace(0, len(p.candidates_M) - 1, _PROBE_COLUMNS).astype(np.int64))
    a_rD = bank.rows(block.anchor_R[row_r]).astype(np.float64)
    b_cD = bank.rows(p.candidates_M[column_c]).astype(np.float64)
    key_rc = np.einsum("cd,cd->c", b_cD, b_cD) / 2 - a_rD @ b_cD.T
    on_device = torch.from_numpy(row_r).to(run.device), torch.from_numpy(column_c).to(run.device)
    seen_rc = block.key_RM[on_device[0]][:, on_device[1]].cpu().numpy()
    error_rc = np.where(np.isinf(seen_rc), 0.0, np.abs(seen_rc - key_rc))
    if (error_rc > block.error_R[row_r, None]).any():
        times = float((error_rc.max(axis=1) / np.maximum(block.error_R[row_r], 1e-300)).max())
        what = f"products on '{run.device}' are off by {times:.1f} times what float32 rounding allows"
        fix = "unset NVIDIA_TF32_OVERRIDE if it is set, or leave the device out"
        raise InputError(Problem("device", what, fix))


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Multiply in full float32 while the context lasts, whatever precision the process has chosen.

    The setting is the process's: other threads that multiply meanwhile do so in float32 too.
    """
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with torch.autocast(device.type, enabled=False):
        if hasattr(backends[0], "fp32_precision"):
            before = [backend.fp32_precision for backend in backends]
            try:
                for backend in backends:
                    backend.fp32_precision = "ieee"
                yield
            finally:
                for backend, precision in zip(backends, before, strict=True):
                    backend.fp32_precision = precision
        else:  # torch before 2.9
            precision = torch.get_float32_matmul_precision()
            try:
                torch.set_float32_matmul_precision("highest")
                yield
            finally:
                torch.set_float32_matmul_precision(precision)


def rows_per_block(p: MiningProblem, device: torch.device) -> int:
    """Return how many anchors are processed at once; raise `InputError` if there is no room for one."""
    num_candidates = len(p.candidates_M)
    free = _free_bytes(device)
    room = int(FREE_SHARE * free) - _bank_bytes(p)
    rows = min(room // _row_bytes(p), _MAX_ROWS, max(_MAX_PAIRS // num_candidates, 1), len(p.anchors_T))
    if rows < 1:
        raise no_room(p, 1, f"'{device}' has {_size(free)} free, of which mining takes {FREE_SHARE:.0%}: too little")
    return rows


def _bank_bytes(p: MiningProblem) -> int:
    return 4 * len(p.candidates_M) * (int(p.bank_ND.shape[1]) + 2)


def _row_bytes(p: MiningProblem) -> int:
    return _PAIR_BYTES * len(p.candidates_M) + 4 * int(p.bank_ND.shape[1]) + WINDOW * _WINDOW_BYTES


def no_room(p: MiningProblem, rows: int, what: str) -> InputError:
    """Return the error that says what is missing, what mining needs, and what can be done."""
    needs = (
        f"for {len(p.candidates_M):,} candidates of {p.bank_ND.shape[1]} dimensions ({_size(_bank_bytes(p))}) and "
        f"{rows:,} anchors at once ({_size(rows * _row_bytes(p))})"
    )
    fix = "free memory there, give fewer candidates, or leave the device out"
    return InputError(Problem("device", f"{what} {needs}", fix))


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2g} MB"


def _free_bytes(device: torch.device) -> int:
    """Return what a device has free; what torch keeps there unused counts as free."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(kept)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return _CPU_BYTES
