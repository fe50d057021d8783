"""A classifier for tests: what it is told to say, at once, without torch."""

from PIL import Image

from apps.errors import N_, NotFound
from apps.vision.conversion import convert
from apps.vision.types import Classification, Explanation, Guess, Layer, LoadedModel, Step
from apps.vision.zoo.classifiers import get_classifier

SURE = 0.9  # probability of its first guess; the others share the rest


class FakeClassifier:
    """Takes every picture for ``label``, or for the first class of a network without such a one.

    Conversions are real. ``error``, if set, is raised instead of an answer.
    """

    def __init__(self, label: str = "", error: Exception | None = None) -> None:
        self.label = label
        self.error = error
        self.loaded: tuple[LoadedModel, ...] = ()

    def classify(
        self, picture: Image.Image, model: str, *, top: int = 5, invert: bool | None = None
    ) -> Classification:
        spec = get_classifier(model)
        if self.error is not None:
            raise self.error
        first = self.label if self.label in spec.labels else spec.labels[0]
        others = [label for label in spec.labels if label != first]
        guesses = (Guess(first, SURE), *(Guess(one, (1 - SURE) / len(others)) for one in others))
        steps = convert(picture, spec.input, invert).steps
        return Classification(guesses[: max(top, 1)], steps, spec.name)

    def explain(
        self,
        picture: Image.Image,
        model: str,
        *,
        label: str | None = None,
        invert: bool | None = None,
    ) -> Explanation:
        labels = get_classifier(model).labels
        if label is not None and label not in labels:
            raise NotFound(
                N_("The model “%(model)s” has no class “%(label)s”."), model=model, label=label
            )
        found = self.classify(picture, model, top=1, invert=invert)
        last = found.steps[-1].picture
        return Explanation(
            label or found.guesses[0].label, last.convert("RGB"), (Step("features.0", last),)
        )

    def status(self) -> tuple[LoadedModel, ...]:
        return self.loaded

    def layers(self, model: str) -> tuple[Layer, ...]:
        spec = get_classifier(model)
        given, count = spec.input, len(spec.labels)
        return (
            Layer("features.0", "Conv2d", (4, given.size, given.size), 40 * given.channels),
            Layer("head", "Linear", (count,), 4 * given.size**2 * count + count),
        )
