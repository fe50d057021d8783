"""AlexNet (Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep
convolutional neural networks") on one device: no convolution is split into two groups.

torchvision's ``alexnet`` is the later, narrower network of 2014 ("one weird trick").
"""

from torch import nn

from apps.vision.zoo.layers import LocalResponseNorm


def alexnet(num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> nn.Sequential:
    """Logits (N, num_classes) of pictures (N, in_channels, 227, 227).

    ==========  =====================================================  ===========
    layer       what                                                   output
    ==========  =====================================================  ===========
    features    11 x 11 convolution, stride 4, ReLU, response norm     96, 55, 55
    \\           3 x 3 max pooling, stride 2                            96, 27, 27
    \\           5 x 5 convolution, padding 2, ReLU, response norm      256, 27, 27
    \\           3 x 3 max pooling, stride 2                            256, 13, 13
    \\           3 x 3 convolution, padding 1, ReLU                     384, 13, 13
    \\           3 x 3 convolution, padding 1, ReLU                     384, 13, 13
    \\           3 x 3 convolution, padding 1, ReLU                     256, 13, 13
    \\           3 x 3 max pooling, stride 2                            256, 6, 6
    classifier  dropout, linear, ReLU                                  4096
    \\           dropout, linear, ReLU                                  4096
    \\           linear                                                 num_classes
    ==========  =====================================================  ===========

    62,378,344 parameters for 1,000 classes of coloured pictures. The paper says 224 x 224, but
    its 55 x 55 outputs follow from 227 x 227.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 96, 11, stride=4),
        nn.ReLU(inplace=True),
        _response_norm(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(96, 256, 5, padding=2),
        nn.ReLU(inplace=True),
        _response_norm(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
    )
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("classifier", classifier)
    return network


def _response_norm() -> LocalResponseNorm:
    """Section 3.3 of the paper; torch divides alpha by the size, the paper does not."""
    return LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
