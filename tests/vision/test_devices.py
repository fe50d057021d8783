import pytest
import torch

from apps.vision import devices


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    ],
)
def test_too_little_memory_is_not_a_lost_device(error):
    assert devices.is_out_of_memory(error)
    assert not devices.is_lost(error)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: unspecified launch failure",
        "CUDA error: device-side assert triggered",
        "CUDA driver error: unknown error",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_gpu_that_is_gone_is_told_from_other_errors(text):
    assert devices.is_lost(RuntimeError(text))
    assert not devices.is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("CUDA error"), OSError()]
)
def test_an_error_of_one_picture_is_neither(error):
    assert not devices.is_lost(error)
    assert not devices.is_out_of_memory(error)


def test_memory_of_the_process_and_of_the_machine():
    used, free = devices.memory(torch.device("cpu"))
    assert 2**25 < used < 2**40
    assert 0 < free < 2**45


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    assert devices.main_memory()[1] == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.main_memory()[1] > 600_000


def test_a_device_by_its_name():
    assert devices.describe(torch.device("cpu")) == "cpu"


def test_torch_has_the_last_word_on_whether_there_is_a_gpu(monkeypatch, tmp_path):
    """A driver alone is no GPU: this torch may be built without CUDA, or be too new for it."""
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(devices, "NVIDIA", driver)
    monkeypatch.setattr(devices, "TRACES", (driver,))
    monkeypatch.setattr(devices, "_is_cuda", {})
    assert devices.uses_cuda("auto")  # as far as one can tell without torch
    assert not devices.uses_cuda("cpu")
    assert devices.uses_cuda("cuda:1")
    devices.ask_torch("auto")
    assert devices.uses_cuda("auto") is torch.cuda.is_available()
    devices.heard("cuda:1", cuda=False)  # lost, and the CPU goes on
    assert not devices.uses_cuda("cuda:1")
