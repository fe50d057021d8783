"""Puts answers for Label Studio through ``label-studio-sdk``'s own types and checks.

From stdin: {"steps": [{"do", …}]}; to stdout: the answer to each. ``script/clients`` makes what it
runs with.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
from label_studio_sdk.label_interface.create import labels
from label_studio_sdk.label_interface.objects import PredictionValue, TaskValue
from label_studio_sdk.ml.types import ListModelVersionsMlResponse


def config(step: dict[str, Any]) -> str:
    """A labeling config as the SDK writes it: {"pictures": […], "boxes": {name: [picture, …]}}."""
    boxes = {
        name: labels(classes, tag_type="RectangleLabels", toName=picture)
        for name, (picture, classes) in step["boxes"].items()
    }
    return str(LabelInterface.create(dict.fromkeys(step["pictures"], "Image") | boxes))


def predictions(step: dict[str, Any]) -> list[dict[str, Any]]:
    """What the SDK has to say against each prediction, and what it reads from it."""
    interface = LabelInterface(step["config"])
    interface.validate()
    found = []
    for task, sent in zip(step["tasks"], step["results"], strict=True):
        value = PredictionValue(**sent)
        whole = TaskValue(data=task["data"], predictions=[value])
        found.append(
            {
                "problems": interface.validate_prediction(sent, return_errors=True),
                "task": interface.validate_task({"data": whole.data}),
                "read": value.model_dump(),
            }
        )
    return found


def pixels(step: dict[str, Any]) -> list[list[Any]]:
    """[task, label, x, y, width, height] of each box, as the SDK's converter to COCO has them."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "tasks.json"), Path(folder, "coco")
        done = [
            task | {"annotations": [{"id": 1, "result": sent["result"]}]}
            for task, sent in zip(step["tasks"], step["results"], strict=True)
        ]
        given.write_text(json.dumps(done))
        converter = Converter(step["config"], folder, download_resources=False)
        converter.convert_to_coco(str(given), str(made), is_dir=False)
        coco = json.loads(Path(made, "result.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    return [
        [one["image_id"], names[one["category_id"]], *one["bbox"]] for one in coco["annotations"]
    ]


def run(step: dict[str, Any]) -> Any:
    match step["do"]:
        case "config":
            return config(step)
        case "predictions":
            return predictions(step)
        case "pixels":
            return pixels(step)
        case "versions":
            return ListModelVersionsMlResponse(**step["answer"]).model_dump()
    raise SystemExit(f"no such step: {step['do']}")


def main() -> None:
    job = json.load(sys.stdin)
    json.dump([run(step) for step in job["steps"]], sys.stdout)


if __name__ == "__main__":
    main()
