"""ResNet-18, 34, 50, 101 and 152 (He, Zhang, Ren and Sun 2016, "Deep residual learning for image
recognition"). Parameters are called as torchvision calls them, so its state dicts fit.

As in torchvision, a bottleneck strides in its 3 x 3 convolution; the paper's strides before.
"""

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (figure 5, left): (N, C, H, W) to
    (N, width, H / stride, W / stride)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out: torch.Tensor = self.relu(residual + shortcut)
        return out


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut (figure 5, right): (N, C, H, W) to
    (N, 4 width, H / stride, W / stride)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out: torch.Tensor = self.relu(residual + shortcut)
        return out


class ResNet(nn.Module):
    """Table 1 of the paper; see :func:`resnet18` and :func:`resnet50` for the shapes.

    Args:
        depths: blocks of each of the four stages, of 64, 128, 256 and 512 maps.
        dropout: probability of each feature before the last layer to be left out in training; the
            paper has none.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        step = block.expansion
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * step, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * step, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * step, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * step, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to logits (N, num_classes)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(pictures))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: torch.Tensor = self.fc(self.dropout(self.avgpool(maps).flatten(1)))
        return logits


def resnet18(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> ResNet:
    """Logits (N, num_classes) of pictures (N, in_channels, 224, 224), or of any other size.

    =======  =========================================  ============
    layer    what                                       output
    =======  =========================================  ============
    conv1    7 x 7 convolution, stride 2, batch norm    64, 112, 112
    maxpool  3 x 3 max pooling, stride 2                64, 56, 56
    layer1   2 basic blocks                             64, 56, 56
    layer2   2 basic blocks, the first with stride 2    128, 28, 28
    layer3   2 basic blocks, the first with stride 2    256, 14, 14
    layer4   2 basic blocks, the first with stride 2    512, 7, 7
    avgpool  mean of each map                           512
    fc       linear                                     num_classes
    =======  =========================================  ============

    11,689,512 parameters for 1,000 classes of coloured pictures.
    """
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, dropout)


def resnet34(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> ResNet:
    """As :func:`resnet18` with 3, 4, 6 and 3 blocks; 21,797,672 parameters."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, dropout)


def resnet50(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> ResNet:
    """Logits (N, num_classes) of pictures (N, in_channels, 224, 224), or of any other size.

    =======  ==============================================  ============
    layer    what                                            output
    =======  ==============================================  ============
    conv1    7 x 7 convolution, stride 2, batch norm         64, 112, 112
    maxpool  3 x 3 max pooling, stride 2                     64, 56, 56
    layer1   3 bottlenecks                                   256, 56, 56
    layer2   4 bottlenecks, the first with stride 2          512, 28, 28
    layer3   6 bottlenecks, the first with stride 2          1024, 14, 14
    layer4   3 bottlenecks, the first with stride 2          2048, 7, 7
    avgpool  mean of each map                                2048
    fc       linear                                          num_classes
    =======  ==============================================  ============

    25,557,032 parameters for 1,000 classes of coloured pictures.
    """
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, dropout)


def resnet101(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> ResNet:
    """As :func:`resnet50` with 3, 4, 23 and 3 bottlenecks; 44,549,160 parameters."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, dropout)


def resnet152(num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> ResNet:
    """As :func:`resnet50` with 3, 8, 36 and 3 bottlenecks; 60,192,808 parameters."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels, dropout)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    first = block(inputs, width, stride)
    rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1 x 1 convolution where the shapes differ (option B of the paper)."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
