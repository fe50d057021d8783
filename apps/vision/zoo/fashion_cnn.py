"""FashionCNN: two convolutions with batch norm, as courses teach it on Fashion-MNIST.

Batch norm: Ioffe and Szegedy 2015. Data: Xiao, Rasul and Vollgraf 2017.
"""

from torch import nn


def fashion_cnn(num_classes: int, in_channels: int = 1, dropout: float = 0.25) -> nn.Sequential:
    """Logits (N, num_classes) of pictures (N, in_channels, 28, 28).

    ======  ===============================================  ==========
    layer   what                                             output
    ======  ===============================================  ==========
    layer1  3 x 3 convolution, padding 1, batch norm, ReLU   32, 28, 28
    \\       2 x 2 max pooling                                32, 14, 14
    layer2  3 x 3 convolution, batch norm, ReLU              64, 12, 12
    \\       2 x 2 max pooling                                64, 6, 6
    head    linear, ReLU, dropout                            600
    \\       linear, ReLU                                     120
    \\       linear                                           num_classes
    ======  ===============================================  ==========

    1,475,338 parameters for ten classes of grey pictures. Courses often leave out the two ReLU of
    the head; without them its three layers are together one linear layer.

    Args:
        dropout: probability of each of the 600 features to be left out in training.
    """
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64 * 6 * 6, 600),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(600, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, num_classes),
    )
    network = nn.Sequential()
    network.add_module("layer1", _block(in_channels, 32, padding=1))
    network.add_module("layer2", _block(32, 64, padding=0))
    network.add_module("head", head)
    return network


def _block(inputs: int, outputs: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=padding),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
