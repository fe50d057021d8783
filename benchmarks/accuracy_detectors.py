"""The accuracy of every embedded detector, measured again and compared with its card.

python -m benchmarks.accuracy_detectors --data ../shared/data

The exit status is 1 if a figure differs by more than ``WITHIN``, or if there are no pictures.
"""

import argparse
import sys
from pathlib import Path

from apps.vision.zoo.registry import EMBEDDED, read_card
from benchmarks.accuracy import Compared
from benchmarks.pictures import DATA

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of all data sets")
    data = parser.parse_args().data
    if not data.is_dir():
        print(f"no data at {data}; give --data DIR or set SIGHTBOX_TEST_DATA", file=sys.stderr)
        return 1
    rows = measured_detectors(data)
    for row in rows:
        print(row.text())
    return int(not rows or not all(row.good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
