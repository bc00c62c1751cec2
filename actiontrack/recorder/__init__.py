"""Record per-sample losses from any training loop, three lines of it.

::

    with Recorder("test", class_names=names) as recorder:            # 1
        for epoch in range(epochs):
            train(model)
            for ids, images, labels in test_loader:
                recorder.update(ids, logits=model(images), labels=labels)  # 2
            recorder.end_epoch()                                      # 3

Works with NumPy, PyTorch and JAX arrays; no framework is imported.
"""

from actiontrack.recorder.privacy import IMAGES_VARIABLE, SALT_VARIABLE
from actiontrack.recorder.recorder import EpochSummary, Recorder
from actiontrack.recorder.spool import spool_root
from actiontrack.recorder.uploader import sync

__all__ = [
    "IMAGES_VARIABLE",
    "SALT_VARIABLE",
    "EpochSummary",
    "Recorder",
    "spool_root",
    "sync",
]
