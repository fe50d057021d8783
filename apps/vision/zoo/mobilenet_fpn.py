"""A light Faster R-CNN on MobileNetV3-Large features (Ren et al. 2015; Howard et al. 2019)."""

from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

CHANNELS = 128  # of every pyramid level
HEAD = 512  # units of the box head


def fasterrcnn_mobilenet_v3_large_fpn128(num_classes: int) -> FasterRCNN:
    """Features 6, 12 and 16 (strides 8, 16, 32) under an FPN of 128 channels; 7.2 M parameters.

    Pictures are scaled to 240 pixels on the short side, at most 320 on the long one.

    Args:
        num_classes: classes without the background.
    """
    backbone = BackboneWithFPN(
        mobilenet_v3_large(weights=None).features,
        return_layers={"6": "0", "12": "1", "16": "2"},
        in_channels_list=[40, 112, 960],
        out_channels=CHANNELS,
        extra_blocks=LastLevelMaxPool(),
    )
    anchors = AnchorGenerator(
        sizes=tuple((side, int(side * 1.41)) for side in (16, 40, 96, 192)),
        aspect_ratios=((0.5, 1.0, 2.0),) * 4,
    )
    return FasterRCNN(
        backbone,
        min_size=240,
        max_size=320,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=150,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HEAD),
        box_predictor=FastRCNNPredictor(HEAD, num_classes + 1),
        box_batch_size_per_image=96,
        box_detections_per_img=100,
    )
