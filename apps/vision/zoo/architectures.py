"""The networks that own weights may be for, and what a file of weights does not say of them.

Nothing here imports torch.
"""

from enum import StrEnum

from apps.vision.zoo import catalogue

SMALL = "fasterrcnn_mobilenet_v3_large_fpn128"
LIGHT = "fasterrcnn_resnet18_fpn128"
TINY = "fasterrcnn_resnet18_192_fpn128"
OWN = frozenset({SMALL, LIGHT, TINY})  # written here, not in torchvision
SSDLITE = "ssdlite320_mobilenet_v3_large"

# A card names an architecture and never an address, so that a file can make nothing else run.
BUILDERS = {
    **{name: f"torchvision.models.detection:{name}" for name in catalogue.ARCHITECTURES},
    SMALL: f"apps.vision.zoo.mobilenet_fpn:{SMALL}",
    LIGHT: f"apps.vision.zoo.resnet18_fpn:{LIGHT}",
    TINY: f"apps.vision.zoo.resnet18_fpn:{TINY}",
}


class Origin(StrEnum):
    """How torchvision built the network before it was trained.

    The builder of ``torchvision/models/detection`` chooses its batch norms and, for SSDlite, the
    width of its last layers by what it starts from; a file of weights does not tell all of it.
    """

    COCO = "coco"  # weights="DEFAULT", then another predictor
    BACKBONE = "backbone"  # weights=None, weights_backbone="DEFAULT"
    SCRATCH = "scratch"  # weights=None, weights_backbone=None


# With anything pretrained their backbone has FrozenBatchNorm2d instead of BatchNorm2d.
FROZEN = frozenset(
    {
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "maskrcnn_resnet50_fpn",
        "retinanet_resnet50_fpn",
        "fcos_resnet50_fpn",
    }
)
# Their COCO weights are older than the epsilon of FrozenBatchNorm2d: torchvision sets it to 0.
NO_EPSILON = frozenset(
    {"fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}
)
# Each class has a sigmoid of its own, so some people train them without a background.
SIGMOID = frozenset({"retinanet_resnet50_fpn_v2", "retinanet_resnet50_fpn", "fcos_resnet50_fpn"})
