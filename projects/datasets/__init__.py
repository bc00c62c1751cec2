"""The paper's image datasets and a user's own folders, as two splits in memory."""

from projects.datasets.loading import load_dataset
from projects.datasets.noise import add_label_noise
from projects.datasets.noisy_labels import digest_file
from projects.datasets.split import ImageSplit, Source

__all__ = ["ImageSplit", "Source", "add_label_noise", "digest_file", "load_dataset"]
