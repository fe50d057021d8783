"""The device of one engine: chosen with the first picture, and left when it is lost."""

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from apps.errors import N_, ConfigError, DeviceLost
from apps.vision import devices

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class Placement:
    """Where networks live; safe from every thread, and imports torch when first asked.

    Args:
        choice: auto | cpu | cuda | cuda:1 | mps
        fall_back: to the CPU, when the device is not there or stops working.
    """

    def __init__(self, choice: str, *, fall_back: bool) -> None:
        self._choice = choice
        self._fall_back = fall_back
        self._choosing = threading.Lock()
        self._losing = threading.Lock()
        self._device: torch.device | None = None
        self._missing: ConfigError | None = None  # what the last try to choose it said
        self._lost: str | None = None  # the device that stopped working

    def device(self) -> "torch.device":
        """The device, looked for again as long as it was not there; the CPU after a loss.

        Raises:
            ConfigError: it does not exist here, and falling back is not wanted.
        """
        with self._choosing:
            if self._device is None:
                self._device = self._picked()
                devices.heard(self._choice, cuda=self._device.type == "cuda")
            return self._device

    def try_device(self) -> bool:
        """Look for the device if that was not done, or in vain; whether networks can run."""
        try:
            self.device()
        except ConfigError:
            return False
        return self.trouble is None

    def lose(self, forget: Callable[[], object]) -> None:
        """Go on without the device, which is gone for this process: on the CPU, or not at all.

        Several threads may find it out; the first one does it, and the others wait for that.

        Args:
            forget: lets go what is on the device.

        Raises:
            DeviceLost: falling back is not wanted.
        """
        import torch

        with self._losing:
            if self._lost is None:
                lost = str(self.device())
                logger.critical("device lost device=%s fall_back=%s", lost, self._fall_back)
                with self._choosing:
                    self._lost, self._device = lost, torch.device("cpu")
                devices.heard(self._choice, cuda=False)
                forget()
        self.refuse_lost()

    def refuse_lost(self) -> None:
        """Raises DeviceLost if nothing can run any more in this process."""
        if self.is_lost:
            raise _lost(str(self._lost))

    @property
    def is_lost(self) -> bool:
        """Whether only a new process can help."""
        return self._lost is not None and not self._fall_back

    @property
    def trouble(self) -> str | None:
        """In English, why nothing can run at present; asks nothing of the device."""
        if self.is_lost:
            return str(_lost(str(self._lost)))
        return str(self._missing) if self._missing and not self._fall_back else None

    def described(self) -> tuple[str | None, int | None, int | None]:
        """Name for people and bytes used and free; None where it is not known. Never fails."""
        device = self._device
        if self.is_lost:
            return self._lost, None, None
        if device is None or "torch" not in sys.modules:
            return f"{self._choice} (not found)" if self._missing else None, None, None
        name, used, free = str(device), None, None
        try:
            used, free = devices.memory(device)
            name = devices.describe(device)
        except RuntimeError:  # the device is about to be found lost
            pass
        if self._lost:
            name = f"{name} ({self._lost} was lost)"
        elif self._missing:
            name = f"{name} ({self._choice} was not found)"
        return name, used, free

    def _picked(self) -> "torch.device":
        import torch

        try:
            device = devices.pick_device(self._choice)
        except ConfigError as error:
            if self._missing is None:
                level = logging.WARNING if self._fall_back else logging.CRITICAL
                logger.log(level, "%s fall_back=%s", error, self._fall_back)
            self._missing = error
            if not self._fall_back:
                raise
            return torch.device("cpu")
        self._missing = None
        return device


def _lost(device: str) -> DeviceLost:
    return DeviceLost(
        N_(
            "The device %(device)s stopped working, so no picture can be looked at. Restart "
            "Sightbox; if it happens again, look at the driver's messages."
        ),
        device=device,
    )
