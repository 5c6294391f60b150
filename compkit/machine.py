"""What the machine at hand offers: device, precision, loader processes."""

from __future__ import annotations

import torch
from joblib import cpu_count

from compkit.config import MachineConfig
from compkit.errors import CompkitError

# torch counts the cores of the machine, though a container may allow fewer.
torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))


def device_of(machine: MachineConfig) -> torch.device:
    """Return the device to compute on.

    Raises
    ------
    CompkitError
        If CUDA is asked for and absent.
    """
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise CompkitError("machine.device is cuda, but torch finds no GPU here: take auto or cpu")
    if machine.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(machine.device)


def precision_of(machine: MachineConfig) -> str:
    """Return Lightning's name of the precision: as set, else 16-bit mixed where that is fast.

    That is a GPU (bfloat16 where it has it), or a CPU with matrix units for bfloat16 (AMX).
    """
    if machine.precision != "auto":
        return machine.precision
    if device_of(machine).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    return "bf16-mixed" if _amx() else "32"


def autocast(machine: MachineConfig) -> torch.autocast:
    """Return the context in which networks compute at `precision_of` outside of training."""
    precision = precision_of(machine)
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device_of(machine).type, dtype, enabled=precision != "32")


def worker_count(machine: MachineConfig) -> int:
    """Return the number of loader processes: as set, else none on a CPU and up to 12 on a GPU."""
    if machine.workers is not None:
        return machine.workers
    return min(12, cpu_count()) if device_of(machine).type == "cuda" else 0


def _amx() -> bool:
    # torch before 2.11 does not tell; the processor then computes in 32 bits, as it always can.
    tell = getattr(torch.cpu, "get_capabilities", None)
    return bool(tell and tell().get("amx_bf16", False))
