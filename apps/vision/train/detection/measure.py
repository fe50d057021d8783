"""How good boxes are: average precision as COCO and as Pascal VOC count it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from apps.vision.train.detection.pictures import PictureStore, Truth
from apps.vision.train.detection.recipe import COCO

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # 0.50, 0.55 … 0.95
MOST = 100  # boxes of a picture that COCO counts


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector says about one picture."""

    boxes: Tensor  # (n, 4) xyxy
    labels: Tensor  # (n,) from 1
    scores: Tensor  # (n,)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Average precisions of one class, 0..1."""

    label: str
    ap: float  # mean over IoU 0.50 to 0.95
    ap50: float
    boxes: int  # that count


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the classes that have boxes; 0..1."""

    ap: float
    ap50: float
    classes: tuple[ClassAccuracy, ...]
    pictures: int


class Accuracy:
    """Collects what was found and what is there, and compares them.

    Args:
        classes: labels 1, 2, …
        rule: "coco" (101 points of the curve, by torchmetrics) or "voc" (area under the curve).
            Difficult boxes, COCO's crowds among them, count neither way: they need not be found,
            and what is found on them is not wrong. With "coco", as its crowds, that is any box
            enough of which lies in them (pycocotools); with "voc", one that overlaps them as
            other objects have to be.
    """

    def __init__(self, classes: Sequence[str], rule: str = COCO) -> None:
        self.classes = tuple(classes)
        self.rule = rule
        self.found: list[Found] = []
        self.truths: list[Truth] = []

    def add(self, found: Found, truth: Truth) -> None:
        """One picture."""
        self.found.append(found)
        self.truths.append(truth)

    def compute(self) -> Score:
        """The accuracy over all pictures so far."""
        table = self._coco() if self.rule == COCO else self._voc()  # (10, classes)
        counts = [
            sum(int((t.labels[~t.difficult] == k).sum()) for t in self.truths)
            for k in range(1, len(self.classes) + 1)
        ]
        classes = tuple(
            ClassAccuracy(label, float(table[:, k].mean()), float(table[0, k]), counts[k])
            for k, label in enumerate(self.classes)
        )
        counted = [each for each in classes if each.boxes]
        return Score(
            ap=float(np.mean([each.ap for each in counted])) if counted else 0.0,
            ap50=float(np.mean([each.ap50 for each in counted])) if counted else 0.0,
            classes=classes,
            pictures=len(self.truths),
        )

    def _coco(self) -> npt.NDArray[np.float64]:
        from torchmetrics.detection import MeanAveragePrecision

        metric = MeanAveragePrecision(backend="faster_coco_eval", extended_summary=True)
        metric.update(
            [{"boxes": f.boxes, "labels": f.labels, "scores": f.scores} for f in self.found],
            [
                {"boxes": t.boxes, "labels": t.labels, "iscrowd": t.difficult.int()}
                for t in self.truths
            ],
        )
        result = metric.compute()
        precision = result["precision"].numpy()  # (IoU, recall, class, area, most boxes); -1: none
        table = np.zeros((len(IOUS), len(self.classes)))
        for column, label in enumerate(result["classes"].reshape(-1).tolist()):
            table[:, label - 1] = precision[:, :, column, 0, -1].mean(1).clip(0)
        return table

    def _voc(self) -> npt.NDArray[np.float64]:
        return np.array(
            [
                [
                    average_precision(self.truths, self.found, k, iou)
                    for k in range(1, len(self.classes) + 1)
                ]
                for iou in IOUS
            ]
        )


def average_precision(
    truths: Sequence[Truth], found: Sequence[Found], label: int, iou: float = 0.5
) -> float:
    """Area under the precision-recall curve of one class, 0..1 (Everingham et al. 2010 and 2015).

    Boxes are taken by falling score. Each belongs to the box of the truth that it overlaps most,
    if by at least ``iou``: the first one is right, others are wrong; one that belongs to a
    difficult box counts neither way. Difficult boxes need not be found. The curve is made to fall
    before its area is taken, at every recall that occurs.
    """
    rows: list[tuple[float, bool]] = []
    total = 0
    for truth, answer in zip(truths, found, strict=True):
        mine, theirs = truth.labels == label, answer.labels == label
        difficult = truth.difficult[mine]
        total += int((~difficult).sum())
        order = answer.scores[theirs].argsort(descending=True, stable=True)
        boxes, scores = answer.boxes[theirs][order], answer.scores[theirs][order]
        overlaps = box_iou(boxes, truth.boxes[mine])
        used = [False] * len(difficult)
        for score, row in zip(scores.tolist(), overlaps, strict=True):
            best = int(row.argmax()) if len(row) else -1
            if best < 0 or float(row[best]) < iou:
                rows.append((score, False))
            elif not difficult[best]:
                rows.append((score, not used[best]))
                used[best] = True
    if not total or not rows:
        return 0.0
    hits = np.array([hit for _, hit in sorted(rows, key=lambda row: -row[0])])
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(right / total, prepend=0.0)
    return float((steps * falling).sum())


@torch.inference_mode()
def measure(network: nn.Module, store: PictureStore, rule: str = COCO, batch: int = 8) -> Score:
    """The accuracy of ``network`` on every picture of ``store``, where the pictures are."""
    from apps.vision.train.detection.module import found_of

    network = network.to(store.pixels.device).eval()
    accuracy = Accuracy(store.classes, rule)
    for first in range(0, len(store), batch):
        places = range(first, min(first + batch, len(store)))
        for place, output in zip(places, network([store.picture(p) for p in places]), strict=True):
            accuracy.add(found_of(output), store.truths[place])
    return accuracy.compute()
