"""Building a classifier by its name."""

from actiontrack.errors import ParameterError
from projects.models.cnn3 import Cnn3
from projects.models.cnn_keras import CnnKeras
from projects.models.layers import Classifier, Size
from projects.models.resnet_v2 import ResNetV2
from projects.models.speednet import SpeedNet
from projects.models.vgg5 import Vgg5
from projects.models.xception_mini import XceptionMini

__all__ = ["MODELS", "build_model"]

MODELS: dict[str, type[Classifier]] = {
    "cnn_keras": CnnKeras,
    "resnet_v2": ResNetV2,
    "xception_mini": XceptionMini,
    "vgg5": Vgg5,
    "cnn3": Cnn3,
    "speednet": SpeedNet,
}


def _as_size(image_size: int | Size) -> Size:
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _check(name: str, *, in_channels: int, size: Size, n_classes: int) -> None:
    if name not in MODELS:
        rule = f"must be one of {', '.join(MODELS)}"
        raise ParameterError("model", rule, name, "Pass one of these names.")
    smallest = MODELS[name].min_size
    if min(size) < smallest:
        rule = f"must be at least {smallest}x{smallest} pixels for {name}"
        remedy = f"Pass --image_size {smallest} or more."
        raise ParameterError("image_size", rule, f"{size[0]}x{size[1]}", remedy)
    for argument, value in (("in_channels", in_channels), ("n_classes", n_classes)):
        if value < 1:
            raise ParameterError(argument, "must be an integer >= 1", value, "Check the dataset.")


def build_model(
    name: str,
    *,
    in_channels: int,
    image_size: int | Size,
    n_classes: int,
    width: int | None = None,
) -> Classifier:
    """Build a classifier with fresh weights from PyTorch's global generator.

    Args:
        name: A key of `MODELS`.
        in_channels: Channels of the images, e.g. 1 or 3.
        image_size: Side of square images, or height and width, in pixels.
        n_classes: Number of logits.
        width: Channels of the first stage of speednet; the other models have none to choose.

    Returns:
        A float32 module in training mode on the CPU, with ``features(x) -> (B, D)`` and
        ``forward(x) -> (B, n_classes)`` for float images (B, in_channels, H, W).

    Raises:
        ParameterError: An unknown name, images smaller than the model takes, or a count below 1.
    """
    size = _as_size(image_size)
    _check(name, in_channels=in_channels, size=size, n_classes=n_classes)
    options = {} if width is None else {"width": width}
    # Each subclass takes the same three keywords; nn.Module's own __init__ does not show them.
    model: Classifier = MODELS[name](
        in_channels=in_channels, image_size=size, n_classes=n_classes, **options
    )
    return model
