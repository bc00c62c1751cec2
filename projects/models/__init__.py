"""The paper's classifiers, one file each; `README.md` has sources and parameter counts."""

from projects.models.classifiers import MODELS, build_model
from projects.models.layers import Classifier

__all__ = ["MODELS", "Classifier", "build_model"]
