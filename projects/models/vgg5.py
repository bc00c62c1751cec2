"""VGG5: the "small VGG-like network with 5 layers" of the paper's section 3 (Figure 2).

The paper gives no more. Layers are counted as in Simonyan and Zisserman 2015, "Very Deep
Convolutional Networks": convolutions and dense layers, not poolings. We read it as their
configuration A cut down: one 3x3 convolution before each pooling, dense layers on top.
"""

from torch import nn

from projects.models.layers import Classifier, Size, conv3, init_keras, pooled

__all__ = ["Vgg5"]


class Vgg5(Classifier):
    """Three 3x3 convolutions (32, 64, 128), each with a 2x2 max-pooling, dense 128, classifier.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width in pixels, both at least 8.
        n_classes: Number of logits.
    """

    def __init__(self, *, in_channels: int, image_size: Size, n_classes: int) -> None:
        """Build the layers; the class documents the arguments."""
        super().__init__()
        height, width = pooled(image_size, 3)
        self.trunk = nn.Sequential(
            *(conv3(in_channels, 32), nn.MaxPool2d(2)),
            *(conv3(32, 64), nn.MaxPool2d(2)),
            *(conv3(64, 128), nn.MaxPool2d(2)),
            nn.Flatten(),
            nn.Linear(128 * height * width, 128),
            nn.ReLU(inplace=True),
        )  # (B, 128)
        self.head = nn.Linear(128, n_classes)
        init_keras(self)
