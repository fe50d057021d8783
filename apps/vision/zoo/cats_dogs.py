"""The small convnet of the cats-and-dogs lesson (Chollet 2018, "Deep learning with Python",
section 5.2), with an output for each of two classes instead of one for both."""

from torch import nn

WIDTHS = (32, 64, 128, 128)


def convnet(num_classes: int = 2, in_channels: int = 3, dropout: float = 0.5) -> nn.Sequential:
    """Logits (N, num_classes) of pictures (N, in_channels, 150, 150).

    ========  ======================================  ============
    layer     what                                    output
    ========  ======================================  ============
    features  3 x 3 convolution, ReLU, max pooling    32, 74, 74
    \\         3 x 3 convolution, ReLU, max pooling    64, 36, 36
    \\         3 x 3 convolution, ReLU, max pooling    128, 17, 17
    \\         3 x 3 convolution, ReLU, max pooling    128, 7, 7
    head      dropout, linear, ReLU                   512
    \\         linear                                  num_classes
    ========  ======================================  ============

    3,453,634 parameters for two classes of coloured pictures.
    """
    features: list[nn.Module] = []
    width = in_channels
    for outputs in WIDTHS:
        features += [nn.Conv2d(width, outputs, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        width = outputs
    head = nn.Sequential(
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(width * 7 * 7, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, num_classes),
    )
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("head", head)
    return network
