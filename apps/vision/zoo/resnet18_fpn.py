"""A light Faster R-CNN on ResNet-18 features (Ren et al. 2015; He et al. 2016)."""

from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CHANNELS = 128  # of every pyramid level
HEAD = 256  # units of the box head


def fasterrcnn_resnet18_fpn128(num_classes: int) -> FasterRCNN:
    """Strides 8, 16 and 32 of ResNet-18 under an FPN of 128 channels; 13.5 M parameters.

    Pictures are scaled to 320 pixels on the longest side. Stride 4 is left out: it would double
    the time for objects that such a small picture hardly shows.

    Args:
        num_classes: classes without the background.
    """
    return _build(num_classes, side=320, anchors=(20, 44, 96, 192), canonical=224)


def fasterrcnn_resnet18_192_fpn128(num_classes: int) -> FasterRCNN:
    """The same network for pictures of 192 pixels on the longest side: a third of the work.

    Anchors and the box size that is pooled from stride 16 (Lin et al. 2017, eq. 1) are smaller
    with it.

    Args:
        num_classes: classes without the background.
    """
    return _build(num_classes, side=192, anchors=(14, 34, 74, 134), canonical=112)


def _build(num_classes: int, side: int, anchors: tuple[int, ...], canonical: int) -> FasterRCNN:
    """Sizes in pixels; ``anchors`` are for strides 8, 16, 32 and 64, each also times 1.41."""
    backbone = BackboneWithFPN(
        resnet18(weights=None),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=CHANNELS,
        extra_blocks=LastLevelMaxPool(),
    )
    return FasterRCNN(
        backbone,
        min_size=side,
        max_size=side,
        rpn_anchor_generator=AnchorGenerator(
            sizes=tuple((size, int(size * 1.41)) for size in anchors),
            aspect_ratios=((0.5, 1.0, 2.0),) * 4,
        ),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=250,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(
            ["0", "1", "2"], output_size=7, sampling_ratio=2, canonical_scale=canonical
        ),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HEAD),
        box_predictor=FastRCNNPredictor(HEAD, num_classes + 1),
        box_batch_size_per_image=128,
        box_detections_per_img=100,
    )
