"""The accuracy of every embedded detector, measured again and compared with its card."""

from pathlib import Path

from apps.vision.zoo.registry import EMBEDDED, read_card
from benchmarks.compared import Compared

# Folder of the data below --data, and the card; the card's recipe says what is held out.
SHIPPED = ("blood-cells", "everyday")
# Last bits differ from machine to machine, and one box more or less found among few.
WITHIN = 0.005


def measured_detectors(data: Path) -> list[Compared]:
    """AP50 and AP of every embedded detector on its test part, all classes and each."""
    return [row for name in SHIPPED if read_card(name) for row in measured_detector(name, data)]


def measured_detector(name: str, data: Path) -> list[Compared]:
    """As :func:`measured_detectors`, of one."""
    from apps.vision.formats import folders
    from apps.vision.train.detection.make import measure_file
    from apps.vision.train.detection.parts import divide
    from apps.vision.train.detection.recipe import DetectorRecipe

    card = read_card(name)
    recipe = DetectorRecipe.from_dict(card["recipe"])
    test = divide(folders.read(data / name), recipe).test
    score = measure_file(EMBEDDED / card["file"], recipe, test)
    rows = [
        Compared(f"{name} AP50", card["ap50"], score.ap50, WITHIN),
        Compared(f"{name} AP", card["ap"], score.ap, WITHIN),
    ]
    for each in score.classes:
        said = card["per_class"][each.label]
        rows.append(Compared(f"  {each.label} AP50", said["ap50"], each.ap50, WITHIN))
        rows.append(Compared(f"  {each.label} AP", said["ap"], each.ap, WITHIN))
    return rows
