"""Label Studio's JSON, full and small: corners are percent of the upright picture."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from apps.errors import N_
from apps.vision.formats.dataset import Corners
from apps.vision.formats.incoming.files import Shelf, numbers
from apps.vision.formats.incoming.found import Found, FoundPicture

NO_TASK = N_("Task %(number)s names no picture. It is left out.")
NO_REGION = N_("A region of task %(number)s is not a box with a label. It is left out.")
TURNED = N_("A turned box of task %(number)s becomes the upright box around it.")
SEVERAL = N_("Task %(number)s has several annotations. The latest one is taken.")
NO_SCORE = N_("A prediction of task %(number)s has a box without a score. It counts as certain.")
PREDICTED = N_("Task %(number)s has no annotation. What a model predicted is taken.")
MODELS = N_("Task %(number)s has predictions of more than %(limit)s models. Others are left out.")
BOXES = ("rectanglelabels", "rectangle")
MAX_MODELS = 100  # of one picture
MAX_VERSION = 200  # characters of a model's name that are looked at


def fits(content: Any) -> bool:
    """Whether the content of a JSON file is a list of tasks."""
    return isinstance(content, list) and any(
        isinstance(task, dict) and ("data" in task or "image" in task) for task in content[:20]
    )


def read(shelf: Shelf, name: str, content: list[Any], found: Found) -> None:
    """Add what the file ``name`` says.

    Where somebody has annotated at least one of its tasks, predictions are a model's boxes beside
    them. Where nobody has, they are all there is, and come as if a person had drawn them.
    """
    annotated = any(isinstance(task, dict) and _annotations(task) for task in content)
    for place, task in enumerate(content):
        number = task.get("id", place) if isinstance(task, dict) else place
        said = _address(task) if isinstance(task, dict) else None
        if said is None:
            shelf.problems.add(name, NO_TASK, number=number)
            continue
        file = shelf.find_address(said, name)
        if file is not None:
            picture = found.picture(file)
            picture.parts = True
            reader = _Task(shelf, picture, number, found)
            reader.read(task)
            if annotated:
                reader.read_predictions(task)
            elif "data" in task:
                reader.read_as_said(task)


def _address(task: dict[str, Any]) -> str | None:
    data = task.get("data")
    if isinstance(data, dict):
        texts = [data["image"]] if "image" in data else list(data.values())
        return next((text for text in texts if isinstance(text, str) and text), None)
    image = task.get("image")
    return image if isinstance(image, str) and image else None


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    said = _list(task, "annotations") or _list(task, "completions")
    return [each for each in said if isinstance(each, dict) and not each.get("was_cancelled")]


class _Task:
    def __init__(self, shelf: Shelf, picture: FoundPicture, number: Any, found: Found) -> None:
        self.problems, self.picture = shelf.problems, picture
        self.number, self.found = number, found

    def read(self, task: dict[str, Any]) -> None:
        """What people said."""
        self._regions(self._said(task))

    def read_predictions(self, task: dict[str, Any]) -> None:
        """What models found, under their names and with their scores."""
        models = self.picture.models
        for prediction in _list(task, "predictions"):
            if not isinstance(prediction, dict):
                continue
            model = _version(prediction)
            if model not in models and len(models) >= MAX_MODELS:
                self._note(MODELS, limit=MAX_MODELS)
            elif prediction.get("result") == []:  # it looked and found nothing
                models.setdefault(model)
            else:
                self._regions(_list(prediction, "result"), model, prediction)

    def read_as_said(self, task: dict[str, Any]) -> None:
        """What a model found, for want of anything that a person said."""
        for prediction in _list(task, "predictions")[:1]:
            if isinstance(prediction, dict) and prediction.get("result"):
                self._note(PREDICTED, loss=False)
                self._regions(_list(prediction, "result"))

    def _regions(
        self, regions: Iterable[Any], model: str | None = None, around: dict[str, Any] | None = None
    ) -> None:
        """Add the boxes of ``regions``.

        Args:
            model: that found them; None: a person said so.
            around: their prediction, whose score counts for boxes that have none.
        """
        for region in regions:
            if not isinstance(region, dict):
                self._note(NO_REGION)
            elif region.get("type", "rectanglelabels") in BOXES or "value" not in region:
                score = 1.0 if model is None else self._score(region, around or {})
                corrected = model is None and str(region.get("origin")).startswith("prediction")
                self._region(region.get("value", region), model, score, corrected=corrected)
            elif region.get("type") not in ("choices", "labels"):  # labels belong to a rectangle
                self._note(NO_REGION)

    def _said(self, task: dict[str, Any]) -> Iterator[Any]:
        """Regions of the annotation that counts; the small kind has them in the task."""
        said = _annotations(task)
        if len(said) > 1:
            self._note(SEVERAL, loss=False)
        if said:
            latest = max(said, key=lambda each: str(each.get("updated_at") or ""))
            yield from _list(latest, "result")
        elif "data" not in task:
            for key in ("label", "bbox", "objects"):
                yield from _list(task, key)

    def _score(self, region: dict[str, Any], prediction: dict[str, Any]) -> float:
        """0 to 1."""
        for said in (region.get("score"), prediction.get("score")):
            known = None if said is None else numbers((said,))
            if known is not None and math.isfinite(known[0]):
                return min(max(known[0], 0.0), 1.0)
        self._note(NO_SCORE, loss=False)
        return 1.0

    def _region(self, value: Any, model: str | None, score: float, *, corrected: bool) -> None:
        value = value if isinstance(value, dict) else {}
        labels = value.get("rectanglelabels") or value.get("labels")
        labels = labels if isinstance(labels, list) else []
        words = [each.strip() for each in labels if isinstance(each, str) and each.strip()]
        place = numbers(value.get(key) for key in ("x", "y", "width", "height"))
        if place is None or not words:
            self._note(NO_REGION)
            return
        x, y, width, height = (side / 100 for side in place)
        corners = (x, y, x + width, y + height)
        turned = numbers((value.get("rotation") or 0,))
        if turned and turned[0] % 360:
            self._note(TURNED, loss=False)
            corners = self._around(corners, turned[0], value)
        for word in words:
            self.found.add(self.picture, word, corners, model, score, corrected=corrected)

    def _around(self, corners: Corners, degrees: float, value: dict[str, Any]) -> Corners:
        """The upright box around one that is turned about its upper left corner."""
        size = numbers((value.get("original_width") or 1, value.get("original_height") or 1))
        aspect = size[0] / size[1] if size and size[1] > 0 and size[0] > 0 else 1.0
        x1, y1, x2, y2 = corners
        angle = math.radians(degrees) if math.isfinite(degrees) else math.nan
        cos, sin = (math.nan, math.nan) if math.isnan(angle) else (math.cos(angle), math.sin(angle))
        points = [
            (x1 + dx * cos - dy / aspect * sin, y1 + dx * aspect * sin + dy * cos)
            for dx in (0, x2 - x1)
            for dy in (0, y2 - y1)
        ]
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        return min(xs), min(ys), max(xs), max(ys)

    def _note(self, message: str, *, loss: bool = True, **params: Any) -> None:
        self.problems.add(self.picture.file, message, loss=loss, number=self.number, **params)


def _version(prediction: dict[str, Any]) -> str:
    """What the labels call the model, at most MAX_VERSION characters; empty: nothing usable."""
    said = prediction.get("model_version")
    usable = isinstance(said, str) or (isinstance(said, int) and not isinstance(said, bool))
    return str(said)[:MAX_VERSION] if usable else ""


def _list(row: dict[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    return value if isinstance(value, list) else []
