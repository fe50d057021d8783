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
SIDE = 320  # pixels, longest side of what it sees


def fasterrcnn_resnet18_fpn128(num_classes: int) -> FasterRCNN:
    """Strides 8, 16 and 32 of ResNet-18 under an FPN of 128 channels; 13.5 M parameters.

    Pictures are scaled to 320 pixels on the longest side. Stride 4 is left out: it would double
    the time for objects that such a small picture hardly shows.

    Args:
        num_classes: classes without the background.
    """
    backbone = BackboneWithFPN(
        resnet18(weights=None),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=CHANNELS,
        extra_blocks=LastLevelMaxPool(),
    )
    anchors = AnchorGenerator(
        sizes=tuple((side, int(side * 1.41)) for side in (20, 44, 96, 192)),
        aspect_ratios=((0.5, 1.0, 2.0),) * 4,
    )
    return FasterRCNN(
        backbone,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=250,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, HEAD),
        box_predictor=FastRCNNPredictor(HEAD, num_classes + 1),
        box_batch_size_per_image=128,
        box_detections_per_img=100,
    )
