"""Transfer learning: torchvision's ResNet-18 with a new last layer (Yosinski et al. 2014, "How
transferable are features in deep neural networks?"), for notebooks and tests.

``flask train classifier --set network=resnet18 --set pretrained=FILE --set strategy=head`` trains
the same network with our own :func:`apps.vision.zoo.resnet.resnet18`, whose weights fit here.
"""

from collections.abc import Mapping

import torch
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

STAGES = ("layer4", "layer3", "layer2", "layer1", "stem")  # from the head down
STEM = ("conv1", "bn1")


class TransferredResNet(ResNet):
    """ResNet-18 whose lower stages do not learn; their batch norms keep their statistics too.

    Args:
        trainable: stages of :data:`STAGES` that learn, with the head, counted from the head down.
    """

    def __init__(self, num_classes: int, trainable: int) -> None:
        if not 0 <= trainable <= len(STAGES):
            raise ValueError(f"trainable must be in 0..{len(STAGES)}, got {trainable}")
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        still = STAGES[trainable:]
        self.still = tuple(name for stage in still for name in _modules_of(stage))
        for name in self.still:
            self.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> "TransferredResNet":
        """Training mode for what learns; what does not stays in evaluation mode."""
        super().train(mode)
        for name in self.still:
            self.get_submodule(name).eval()
        return self


def transferred_resnet18(
    num_classes: int,
    backbone: Mapping[str, torch.Tensor] | None = None,
    trainable: int = 0,
) -> TransferredResNet:
    """Logits (N, num_classes) of pictures (N, 3, 224, 224), or of any other size.

    Layers and shapes are those of :func:`apps.vision.zoo.resnet.resnet18`.

    Args:
        backbone: state dict of a ResNet-18 of any number of classes, torchvision's or our own; its
            last layer is not used. None begins with random weights.
        trainable: how many stages learn beside the new last layer, from the top down: 0 uses the
            network as it is (feature extraction), 5 tunes all of it.

    Raises:
        ValueError: ``trainable`` is not in 0..5.
        RuntimeError: ``backbone`` is of another network.
    """
    network = TransferredResNet(num_classes, trainable)
    if backbone is not None:
        head = {f"fc.{name}": value for name, value in network.fc.state_dict().items()}
        network.load_state_dict({**backbone, **head})
    return network


def _modules_of(stage: str) -> tuple[str, ...]:
    return STEM if stage == "stem" else (stage,)
