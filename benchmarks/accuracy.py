"""The accuracy of every shipped classifier and detector, measured again and compared with its card.

python -m benchmarks.accuracy --data ../shared/data

A row is how far a figure is from its card, and its bar the rounding and one picture, for detectors
0.005. With --check the exit status is 1 if one is further away, or if there is nothing to measure
with.
"""

import sys
from pathlib import Path

from apps.vision.zoo.classifiers import EMBEDDED, classifiers, get_classifier, read_card
from benchmarks.accuracy_detectors import measured_detectors
from benchmarks.compared import Compared
from benchmarks.pictures import DATA
from benchmarks.report import arguments, report


def measured_classifiers(data: Path) -> list[Compared]:
    """Every classifier that has a card: its test accuracy, and that of each class."""
    named = [spec.name for spec in classifiers() if read_card(spec.name)]
    return [row for name in named for row in measured_classifier(name, data)]


def measured_classifier(name: str, data: Path) -> list[Compared]:
    """As :func:`measured_classifiers`, of one."""
    from apps.vision.train.classifier import ClassifierRecipe, Examples, build, measure
    from apps.vision.train.data import open_source, ordered
    from apps.vision.train.shipped import get_shipped
    from apps.vision.zoo.weights import read_state

    shipped, card = get_shipped(name), read_card(name)
    recipe = ClassifierRecipe.from_dict(card["recipe"])
    folder = data / shipped.folder
    source = ordered(open_source(folder if folder.is_dir() else data), shipped.labels)
    if source.test is None:
        sys.exit(f"{folder} has no test part.")
    network = build(recipe.changed({"pretrained": "", "strategy": "all"}), len(shipped.labels))
    network.load_state_dict(read_state(EMBEDDED / get_classifier(name).weights.name))
    found = measure(
        network, Examples(source.test, range(len(source.test)), recipe, train=False),
        len(shipped.labels),
    )  # fmt: skip
    rows = [Compared(name, card["accuracy"], found.accuracy, _within(len(source.test)))]
    for number, (label, accuracy) in enumerate(card["per_class"].items()):
        count = list(source.test.labels).count(number)
        rows.append(Compared(f"  {label}", accuracy, found.per_class[number], _within(count)))
    return rows


def _within(pictures: int) -> float:
    """One picture (the last bits differ from machine to machine) and the card's rounding."""
    return 1 / pictures + 0.5e-4 + 1e-9


def main() -> int:
    options = arguments(__doc__).parse_args()
    data = Path(options.data or DATA)
    if not data.is_dir():
        print(f"no data at {data}; give --data DIR or set SIGHTBOX_TEST_DATA", file=sys.stderr)
        return int(options.check)
    found = [*measured_classifiers(data), *measured_detectors(data)]
    if not found:
        print(f"{data} has nothing to measure with", file=sys.stderr)
        return int(options.check)
    return report([one.row() for one in found], check=options.check)


if __name__ == "__main__":
    sys.exit(main())
