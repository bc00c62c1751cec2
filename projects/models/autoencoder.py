"""Convolutional autoencoder: images to a few numbers and back (supplement: unsupervised).

The paper says "dimensionality reduction" and no more; the layers are ours: convolutions that halve
the image until its shorter side is below 8 pixels, a dense layer to the latent space, and the same
way back with nearest-neighbour upsampling.
"""

from itertools import pairwise

from torch import Tensor, nn

from projects.models.layers import Size, init_resnet

__all__ = ["Autoencoder"]

_SMALL = 8  # pixels: the shorter side is halved while it is at least this


class Autoencoder(nn.Module):
    """Images to reconstructions.

    Args:
        in_channels: channels of the images.
        image_size: height and width in pixels.
        latent_dim: numbers that an image is reduced to.
        width: filters of the first layer; each halving doubles them.
    """

    def __init__(
        self, in_channels: int, image_size: Size, *, latent_dim: int, width: int = 32
    ) -> None:
        super().__init__()
        sizes, widths = [image_size], [width]
        while min(sizes[-1]) >= _SMALL:
            height, across = sizes[-1]
            sizes.append(((height + 1) // 2, (across + 1) // 2))
            widths.append(2 * widths[-1])
        steps = list(pairwise(widths))
        inner = (widths[-1], *sizes[-1])
        flat = inner[0] * inner[1] * inner[2]
        self.trunk = nn.Sequential(
            *_block(in_channels, width),
            *(layer for a, b in steps for layer in _block(a, b, stride=2)),
            nn.Flatten(),
        )
        self.to_latent = nn.Linear(flat, latent_dim)
        self.from_latent = nn.Sequential(
            nn.Linear(latent_dim, flat), nn.ReLU(inplace=True), nn.Unflatten(1, inner)
        )
        up = [
            layer
            for (a, b), size in zip(reversed(steps), sizes[-2::-1], strict=True)
            for layer in (nn.Upsample(size=size), *_block(b, a))
        ]
        self.back = nn.Sequential(*up, nn.Conv2d(width, in_channels, 3, padding=1), nn.Sigmoid())
        init_resnet(self)

    def features(self, x: Tensor) -> Tensor:
        """Reduce images.

        Args:
            x: Images, float (B, C, H, W), normalised.

        Returns:
            Their place in the latent space, float (B, latent_dim).
        """
        out: Tensor = self.to_latent(self.trunk(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Reduce images and reconstruct them.

        Args:
            x: Images, float (B, C, H, W), normalised.

        Returns:
            Reconstructions, float (B, C, H, W), pixel values in 0..1.
        """
        out: Tensor = self.back(self.from_latent(self.features(x)))
        return out


def _block(in_channels: int, out_channels: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
