"""Where networks run: choosing a device, its memory, and what its errors mean."""

import ctypes
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from apps.errors import N_, ConfigError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# What the NVIDIA driver puts there: asking torch would import it into the web process.
NVIDIA = Path("/proc/driver/nvidia/version")
# Without any of them torch need not be asked: NVIDIA, the same under WSL and on a Jetson, AMD.
TRACES = (NVIDIA, Path("/dev/dxg"), Path("/dev/nvmap"), Path("/dev/kfd"))
ASKED_SECONDS = 120.0  # that torch may take to answer
CGROUP = Path("/sys/fs/cgroup")
KIB = 1024

# As PyTorch's allocators, cuBLAS and cuDNN word it; the libraries need memory for their handles.
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "cublas_status_not_initialized",
)
CUDNN_LOST = ("EXECUTION_FAILED", "INTERNAL_ERROR", "MAPPING_ERROR")


# Whether a choice of SIGHTBOX_DEVICE is CUDA, where torch has said so: here, or when asked.
_is_cuda: dict[str, bool] = {}
_asking = threading.Lock()


def uses_cuda(choice: str) -> bool:
    """Whether ``choice`` means CUDA on this machine, as far as it is known; imports no torch.

    A driver does not tell: this torch may be built without CUDA, or be too new for it. So it
    counts only until torch has been :func:`heard`.
    """
    guess = NVIDIA.exists() if choice == "auto" else choice.startswith("cuda")
    return _is_cuda.get(choice, guess)


def ask_torch(choice: str) -> None:
    """Make :func:`uses_cuda` sure of ``choice``, by a process of its own; takes seconds, once."""
    with _asking:
        if choice != "auto" or choice in _is_cuda:
            return
        try:
            found = any(trace.exists() for trace in TRACES) and _torch_sees_cuda()
        except (OSError, subprocess.TimeoutExpired) as error:
            logger.warning("torch did not say whether there is a GPU reason=%s", error)
        else:
            heard(choice, cuda=found)


def heard(choice: str, *, cuda: bool) -> None:
    """Remember what torch made of ``choice``."""
    _is_cuda[choice] = cuda


def _torch_sees_cuda() -> bool:
    question = "import torch; print(torch.cuda.is_available())"
    answer = subprocess.run(  # noqa: S603 (nothing of it comes from elsewhere)
        [sys.executable, "-c", question], capture_output=True, text=True, timeout=ASKED_SECONDS
    )
    return answer.stdout.strip() == "True"


def pick_device(choice: str) -> "torch.device":
    """``auto`` is CUDA when there is one, else the CPU; anything else must exist.

    Raises:
        ConfigError: no such device on this machine.
    """
    import torch

    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
        torch.empty(1, device=device).cpu()  # "meta" makes tensors that hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            N_("SIGHTBOX_DEVICE is %(choice)s, which this machine does not have."), choice=choice
        ) from error
    return device


def describe(device: "torch.device") -> str:
    """For people: "cpu", "cuda:0 (NVIDIA H200)"."""
    import torch

    if device.type != "cuda":
        return str(device)
    return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"


def memory(device: "torch.device") -> tuple[int, int]:
    """Bytes that this process uses and bytes that are free, where ``device`` keeps its tensors."""
    import torch

    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)  # what PyTorch keeps for itself, used or not
        return reserved, free + reserved - torch.cuda.memory_allocated(device)
    return main_memory()


def main_memory() -> tuple[int, int]:
    """(resident, free) bytes of main memory: of this process, and for it, containers included."""
    resident = _kib("/proc/self/status", "VmRSS") or 0
    free = _kib("/proc/meminfo", "MemAvailable") or 0
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    if limit is not None and used is not None:
        free = min(free, max(limit - used, 0))
    return resident, free


def give_back(device: "torch.device") -> None:
    """Return memory that nothing uses any more to the device, or to the system."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        _trim_heap()


def _trim_heap() -> None:
    """glibc keeps freed blocks for later; a network's are large, and there may be no later."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less work at once might have fitted."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)


def is_lost(error: BaseException) -> bool:
    """Whether the GPU is gone for this process: nothing works on it until a new one begins.

    Unplugged, fallen off the bus, reset by the driver, or stopped by a failed kernel.
    """
    import torch

    if is_out_of_memory(error):
        return False
    text = str(error)
    if "cuDNN error" in text:  # most of them mean that one operation was not possible
        return any(word in text for word in CUDNN_LOST)
    return isinstance(error, getattr(torch, "AcceleratorError", ())) or (
        isinstance(error, RuntimeError)
        and text.startswith(("CUDA error", "CUDA driver error", "MPS backend"))
    )


def _kib(path: str, field: str) -> int | None:
    """Bytes of a "Field:  123 kB" line of /proc; None where there is no such line."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{field}:")), None)
    return int(found.split()[1]) * KIB if found else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no control groups, or "max": no limit
        return None
