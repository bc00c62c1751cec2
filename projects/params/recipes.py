"""Settings that an architecture was made with, in the place of what the user leaves out."""

from collections.abc import Mapping

__all__ = ["recipe_of"]

#: SpeedNet's, after Jordan 2024 (arXiv 2404.00498): per update what 512 images of CIFAR-10 bear.
_SPEEDNET: Mapping[str, object] = {
    "optimizer": "sgd",
    "batch_size": 512,
    "learning_rate": 0.75,
    "momentum": 0.85,
    "weight_decay": 0.00133,
    "bias_factor": 64.0,
    "lookahead": 5,
    "schedule": "triangular",
    "label_smoothing": 0.2,
    "augment": "flip_shift",
}
_RECIPES = {"speednet": _SPEEDNET}


def recipe_of(model: str) -> Mapping[str, object]:
    """Parameter to value; empty for a model that does well with the defaults."""
    return _RECIPES.get(model, {})
