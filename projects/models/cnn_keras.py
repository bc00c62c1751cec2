"""CNN-Keras: the CNN of Keras' CIFAR-10 example (``examples/cifar10_cnn.py``, Keras 2).

The paper's Table 1 calls it CNN-Keras and its section 4 "a simple VGG-like network".
"""

from torch import nn

from projects.models.layers import Classifier, Size, conv3, init_keras, pooled

__all__ = ["CnnKeras"]


def _after_block(size: Size) -> Size:
    """Size after a ``same`` and a ``valid`` 3x3 convolution."""
    return size[0] - 2, size[1] - 2


def _block(in_channels: int, out_channels: int, *, pool: bool) -> list[nn.Module]:
    last: nn.Module = nn.MaxPool2d(2) if pool else nn.Identity()
    return [
        conv3(in_channels, out_channels),
        conv3(out_channels, out_channels, padding=0),
        last,
        nn.Dropout(0.25),
    ]


class CnnKeras(Classifier):
    """Two blocks of two 3x3 convolutions (32, 64), max-pooling, dense 512; dropout after each.

    At 32x32x3 with 10 classes it has Keras' 1,250,858 parameters. The second pooling is left out
    where the map is a single pixel high or wide before it (images of 8 or 9 pixels).

    Args:
        in_channels: Channels of the images.
        image_size: Height and width in pixels, both at least 8.
        n_classes: Number of logits.
    """

    def __init__(self, *, in_channels: int, image_size: Size, n_classes: int) -> None:
        """Build the layers; the class documents the arguments."""
        super().__init__()
        before = _after_block(pooled(_after_block(image_size), 1))
        pool = min(before) > 1
        height, width = pooled(before, 1) if pool else before
        self.trunk = nn.Sequential(
            *_block(in_channels, 32, pool=True),
            *_block(32, 64, pool=pool),
            nn.Flatten(),
            nn.Linear(64 * height * width, 512),
            nn.ReLU(inplace=True),
        )  # (B, 512)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, n_classes))
        init_keras(self)
