"""Boxes to files and back: COCO, Pascal VOC and YOLO folders. Nothing here needs torch."""
