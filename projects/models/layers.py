"""What the models share: the interface `Classifier`, initial weights and the geometry of layers."""

from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Classifier", "Size", "conv3", "init_keras", "init_resnet", "pooled"]

Size = tuple[int, int]  # height, width in pixels


class Classifier(nn.Module):
    """A network with a last feature layer and a linear classifier on top.

    Subclasses set `trunk` (images to features) and `head` (features to logits).
    """

    min_size: ClassVar[int] = 8  # pixels of the shorter side
    fitted_images: ClassVar[int] = 0  # how many training images `fit_input` asks for
    trunk: nn.Module
    head: nn.Module

    def fit_input(self, images: Tensor) -> None:
        """Fit what of the first layers follows from images without training; most have nothing.

        Args:
            images: of the training split, float (N, C, H, W), normalised.
        """

    def features(self, x: Tensor) -> Tensor:
        """Compute the last feature layer.

        Args:
            x: Images, float (B, C, H, W), normalised.

        Returns:
            Features, float (B, D); D depends on the model and on the image size.
        """
        out: Tensor = self.trunk(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits.

        Args:
            x: Images, float (B, C, H, W), normalised.

        Returns:
            Logits, float (B, n_classes).
        """
        out: Tensor = self.head(self.features(x))
        return out


def conv3(in_channels: int, out_channels: int, *, padding: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution with bias and a ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Number of filters.
        padding: 1 keeps the size (Keras' ``same``), 0 takes two pixels off (``valid``).

    Returns:
        Two modules in a row with 9 * in * out + out parameters.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=padding), nn.ReLU(inplace=True)
    )


def pooled(size: Size, times: int) -> Size:
    """Size that is left after several 2x2 max-poolings.

    Args:
        size: Height and width in pixels.
        times: Number of poolings.

    Returns:
        Height and width, halved and rounded down each time.
    """
    return size[0] >> times, size[1] >> times


def _is_weighted(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def init_keras(model: nn.Module) -> None:
    """Give all convolutions and dense layers Keras' default weights.

    Glorot and Bengio 2010, uniform, with biases of zero: what the paper's models started from.

    Args:
        model: Changed in place; batch norms keep weight 1 and bias 0.
    """
    for module in filter(_is_weighted, model.modules()):
        nn.init.xavier_uniform_(module.get_parameter("weight"))
        if module.bias is not None:
            nn.init.zeros_(module.get_parameter("bias"))


def init_resnet(model: nn.Module) -> None:
    """Give all convolutions and dense layers He's weights, N(0, 2 / fan in), and zero biases.

    He et al. 2015, "Delving Deep into Rectifiers"; Keras' example names it ``he_normal``.

    Args:
        model: Changed in place; batch norms keep weight 1 and bias 0.
    """
    for module in filter(_is_weighted, model.modules()):
        nn.init.kaiming_normal_(module.get_parameter("weight"), nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.get_parameter("bias"))
