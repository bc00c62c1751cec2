"""Action scores: which samples are hard, mislabelled or biased, tracked in MLflow."""

__version__ = "0.1.0"
