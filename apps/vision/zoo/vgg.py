"""VGG16 (Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition"), configuration D. Parameters are called as torchvision's ``vgg16`` calls them."""

import torch
from torch import nn

from apps.vision.zoo.layers import AdaptiveAvgPool2d

CONFIGURATION_D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Groups of 3 x 3 convolutions with ReLU, a 2 x 2 max pooling after each group, three linear
    layers."""

    def __init__(
        self,
        groups: tuple[tuple[int, ...], ...],
        num_classes: int,
        in_channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for group in groups:
            for outputs in group:
                layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                width = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(width * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        for module in self.modules():
            if isinstance(
                module, nn.Conv2d
            ):  # He et al. 2015; the paper began with a shallower net
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to logits (N, num_classes)."""
        features = self.avgpool(self.features(pictures))
        logits: torch.Tensor = self.classifier(features.flatten(1))
        return logits


def vgg16(num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """Logits (N, num_classes) of pictures (N, in_channels, 224, 224).

    ==========  =======================================  =============
    layer       what                                     output
    ==========  =======================================  =============
    features    2 convolutions, pooling                  64, 112, 112
    \\           2 convolutions, pooling                  128, 56, 56
    \\           3 convolutions, pooling                  256, 28, 28
    \\           3 convolutions, pooling                  512, 14, 14
    \\           3 convolutions, pooling                  512, 7, 7
    avgpool     to 7 x 7 whatever the picture's size     512, 7, 7
    classifier  linear, ReLU, dropout                    4096
    \\           linear, ReLU, dropout                    4096
    \\           linear                                   num_classes
    ==========  =======================================  =============

    138,357,544 parameters for 1,000 classes of coloured pictures.
    """
    return VGG(CONFIGURATION_D, num_classes, in_channels, dropout)
