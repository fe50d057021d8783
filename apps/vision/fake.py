"""A detector for tests: boxes as told, at once, without torch."""

from collections.abc import Callable, Sequence

from PIL import Image

from apps.vision.types import Box, Detections, EngineStatus

Script = Callable[[Image.Image], Sequence[Box]]


def _dog(picture: Image.Image) -> Sequence[Box]:
    width, height = picture.size
    return (
        Box("dog", 0.9, width * 0.1, height * 0.1, width * 0.6, height * 0.7),
        Box("cat", 0.3, width * 0.5, height * 0.5, width * 0.9, height * 0.9),
    )


class FakeEngine:
    """Answers with what ``script`` says; by default a sure dog and an unsure cat."""

    def __init__(self, script: Script = _dog, model: str = "fake.test") -> None:
        self.script = script
        self.model = model
        self.state = EngineStatus(None, None, None, (), 0, 1, None)

    def detect(
        self,
        picture: Image.Image,
        model: str | None = None,
        size: tuple[int, int] | None = None,
        *,
        patient: bool = False,
    ) -> Detections:
        name = self.model if model in (None, "auto") else str(model)
        return Detections(tuple(self.script(picture)), name)

    def warm(self, model: str | None = None) -> str:
        return model or self.model

    @property
    def trouble(self) -> str | None:
        return self.state.trouble

    def try_device(self) -> bool:
        return self.trouble is None

    def status(self) -> EngineStatus:
        return self.state
