"""GoogLeNet (Szegedy et al. 2015, "Going deeper with convolutions"), table 1 of the paper.

torchvision's ``googlenet`` differs: batch norm after each convolution, no biases, and 3 x 3
convolutions where the paper has 5 x 5.
"""

import torch
from torch import nn

from apps.vision.zoo.layers import AdaptiveAvgPool2d, LocalResponseNorm


class Inception(nn.Module):
    """1 x 1, 3 x 3 and 5 x 5 convolutions and a 3 x 3 pooling side by side (figure 2b).

    Args:
        reduce3, reduce5: maps of the 1 x 1 convolutions before the 3 x 3 and the 5 x 5.
        pool: maps of the 1 x 1 convolution after the pooling.
    """

    def __init__(
        self, inputs: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int
    ) -> None:
        super().__init__()
        self.branch1 = _conv(inputs, one, 1)
        self.branch2 = nn.Sequential(_conv(inputs, reduce3, 1), _conv(reduce3, three, 3, padding=1))
        self.branch3 = nn.Sequential(_conv(inputs, reduce5, 1), _conv(reduce5, five, 5, padding=2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _conv(inputs, pool, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, one + three + five + pool, H, W)."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(maps) for branch in branches], 1)


class GoogLeNet(nn.Module):
    """See :func:`googlenet`."""

    def __init__(
        self, num_classes: int, in_channels: int, dropout: float, aux_logits: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(in_channels, 64, 7, stride=2, padding=3),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            LocalResponseNorm(5),
            _conv(64, 64, 1),
            _conv(64, 192, 3, padding=1),
            LocalResponseNorm(5),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        )
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.pool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.pool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(1024, num_classes),
        )
        self.aux1 = _side_head(512, num_classes) if aux_logits else None
        self.aux2 = _side_head(528, num_classes) if aux_logits else None

    def forward(self, pictures: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """(N, in_channels, H, W) to logits (N, num_classes).

        In training with side heads: the logits, then those of the heads after 4a and after 4d.
        """
        maps = self.pool3(self.inception3b(self.inception3a(self.stem(pictures))))
        first = self.inception4a(maps)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        maps = self.pool4(self.inception4e(second))
        logits: torch.Tensor = self.head(self.inception5b(self.inception5a(maps)))
        if not self.training or self.aux1 is None or self.aux2 is None:
            return logits
        return logits, self.aux1(first), self.aux2(second)


def googlenet(
    num_classes: int, in_channels: int = 3, dropout: float = 0.4, aux_logits: bool = False
) -> GoogLeNet:
    """Logits (N, num_classes) of pictures (N, in_channels, 224, 224).

    ===============  =====================================================  =============
    layer            what                                                   output
    ===============  =====================================================  =============
    stem             7 x 7 convolution, stride 2, pooling, response norm    64, 56, 56
    \\                1 x 1 and 3 x 3 convolution, response norm, pooling    192, 28, 28
    inception3a, 3b  four branches each                                     480, 28, 28
    pool3            3 x 3 max pooling, stride 2                            480, 14, 14
    inception4a..4e  four branches each                                     832, 14, 14
    pool4            3 x 3 max pooling, stride 2                            832, 7, 7
    inception5a, 5b  four branches each                                     1024, 7, 7
    head             mean of each map, dropout                              1024
    \\                linear                                                 num_classes
    ===============  =====================================================  =============

    6,998,552 parameters for 1,000 classes of coloured pictures, 13,378,280 with both side heads.

    Args:
        aux_logits: whether there are the two side heads that the paper adds for training, with a
            weight of 0.3 in the loss.
    """
    return GoogLeNet(num_classes, in_channels, dropout, aux_logits)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.ReLU(inplace=True))


def _side_head(inputs: int, num_classes: int) -> nn.Sequential:
    """Section 5 of the paper; its 5 x 5 pooling with stride 3 makes 4 x 4 of 14 x 14."""
    return nn.Sequential(
        AdaptiveAvgPool2d(4),
        _conv(inputs, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.7),
        nn.Linear(1024, num_classes),
    )
