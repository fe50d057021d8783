"""Archives of labelled pictures in every format, with the same boxes in them."""

import io
import json
import zipfile
from typing import Any

from tests.conftest import picture_bytes

SIZE = (64, 48)  # pixels of each picture
DOG, CAT = (8.0, 6.0, 40.0, 30.0), (10.0, 12.0, 20.0, 36.0)
BOXES = {"a.jpg": [("dog", DOG), ("cat", CAT)], "b.jpg": [("dog", DOG)], "c.jpg": []}


def packed(files: dict[str, bytes | str]) -> bytes:
    """A ZIP of these files, in their order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def pictures(folder: str = "images/") -> dict[str, bytes | str]:
    """Three new pictures."""
    return {folder + name: picture_bytes(SIZE) for name in BOXES}


def coco_content(boxes: dict[str, list[Any]] = BOXES, **more: Any) -> dict[str, Any]:
    labels = ["cat", "dog"]
    return {
        "images": [
            {"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            for n, name in enumerate(boxes)
        ],
        "categories": [{"id": n, "name": label} for n, label in enumerate(labels)],
        "annotations": [
            {
                "image_id": n,
                "category_id": labels.index(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for n, rows in enumerate(boxes.values())
            for label, (x1, y1, x2, y2) in rows
        ],
    } | more


def coco() -> dict[str, bytes | str]:
    return pictures() | {"annotations.json": json.dumps(coco_content())}


def _middle(corners: tuple[float, ...]) -> str:
    (x1, y1, x2, y2), (w, h) = corners, SIZE
    values = (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h
    return " ".join(f"{value:.6f}" for value in values)


def yolo() -> dict[str, bytes | str]:
    files = pictures("images/train/")
    files["data.yaml"] = "train: images/train\nnames:\n  0: cat\n  1: dog\n"
    for name, rows in BOXES.items():
        lines = [f"{['cat', 'dog'].index(label)} {_middle(box)}" for label, box in rows]
        files[f"labels/train/{name[0]}.txt"] = "\n".join(lines)
    return files


def voc() -> dict[str, bytes | str]:
    files = pictures("JPEGImages/")
    for name, rows in BOXES.items():
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in rows
        )
        size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        files[f"Annotations/{name[0]}.xml"] = (
            f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        )
    return files


def table() -> dict[str, bytes | str]:
    lines = ["\ufefffile,width,height,label,x1,y1,x2,y2"]
    for name, rows in BOXES.items():
        start = f"{name},{SIZE[0]},{SIZE[1]}"
        lines += [f"{start},{label},{','.join(map(str, box))}" for label, box in rows]
        lines += [] if rows else [f"{start},,,,,"]
    return pictures() | {"boxes.csv": "\r\n".join(lines)}


def _region(label: str, corners: tuple[float, ...], **more: Any) -> dict[str, Any]:
    (x1, y1, x2, y2), (w, h) = corners, SIZE
    place = {"x": 100 * x1 / w, "y": 100 * y1 / h}
    size = {"width": 100 * (x2 - x1) / w, "height": 100 * (y2 - y1) / h}
    value = {**place, **size, "rotation": 0, "rectanglelabels": [label]} | more
    return {"type": "rectanglelabels", "value": value}


def labelstudio() -> dict[str, bytes | str]:
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/upload/1/0123abcd-{name}"},
            "annotations": [{"result": [_region(label, box) for label, box in rows]}],
        }
        for number, (name, rows) in enumerate(BOXES.items())
    ]
    return pictures() | {"project-1.json": json.dumps(tasks)}


FORMATS = {"coco": coco, "yolo": yolo, "voc": voc, "csv": table, "labelstudio": labelstudio}
