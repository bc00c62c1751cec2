"""CNN3: the "small 3-layer CNN" of the paper's sections 4.4 and 4.5.

The paper gives no more. We read it as three weight layers that extract features, all of them
convolutions, under the linear classifier that every network here has.
"""

from torch import nn

from projects.models.layers import Classifier, Size, conv3, init_keras, pooled

__all__ = ["Cnn3"]


class Cnn3(Classifier):
    """Three 3x3 convolutions (32, 64, 128), each with a 2x2 max-pooling, and a classifier.

    Its feature layer is the last map laid flat: (B, 128 * (H // 8) * (W // 8)).

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
        )
        self.head = nn.Linear(128 * height * width, n_classes)
        init_keras(self)
