"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document
recognition"), in the form that is usual today: ReLU, max pooling, and every map of C3 connected
with every map of S2."""

from torch import nn


def lenet5(num_classes: int, in_channels: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """Logits (N, num_classes) of pictures (N, in_channels, 28, 28).

    The paper's 32 x 32 pictures are 28 x 28 digits with two pixels of ground around them; here
    the first convolution adds those two.

    ========  ==============================================  ===========
    layer     what                                            output
    ========  ==============================================  ===========
    features  C1: 5 x 5 convolution, padding 2, ReLU          6, 28, 28
    \\         S2: 2 x 2 max pooling                           6, 14, 14
    \\         C3: 5 x 5 convolution, ReLU                     16, 10, 10
    \\         S4: 2 x 2 max pooling                           16, 5, 5
    head      C5: linear, ReLU (a 5 x 5 convolution of 5 x 5) 120
    \\         F6: linear, ReLU                                84
    \\         linear                                          num_classes
    ========  ==============================================  ===========

    61,706 parameters for ten classes of grey pictures.

    Args:
        dropout: probability of each of the 120 and of the 84 features to be left out in training;
            the paper has none.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(84, num_classes),
    )
    network = nn.Sequential()
    network.add_module("features", features)
    network.add_module("head", head)
    return network
