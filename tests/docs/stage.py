"""A tracking store with real runs on digits, for the code that the documentation prints.

Experiments: "models" holds two runs each of two models, with features, probabilities and
thumbnails; "noise" a run with wrong labels; "pixels" one with the action of each pixel.
"""

import io

import mlflow
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from actiontrack import Recorder
from actiontrack.record.digest import digest_input
from actiontrack.store import Store

N_TRAIN, N_TEST, EPOCHS = 300, 100, 3
LAYERS = {"small": (8,), "large": (48,)}


class Stage:
    """Runs in a store that is there, recorded once; their artifacts lie in a folder."""

    def __init__(self, folder, uri):
        self.folder, self.uri = folder, uri
        self.store = Store(uri)
        self.runs = {}
        inputs, labels = load_digits(return_X_y=True)
        self.inputs, self.labels = inputs / 16, labels
        mlflow.set_tracking_uri(self.uri)
        for experiment in ("models", "noise", "pixels"):
            mlflow.create_experiment(experiment, (folder / "artifacts").as_uri())
        for seed in range(2):
            for model in LAYERS:
                self._record("models", model, seed)
        self._record("noise", "small", seed=0)
        self._record_pixels()

    def record_folder(self, experiment):
        """Where the artifacts of the first run of an experiment lie."""
        return self.folder / "artifacts" / self.runs[experiment][0] / "artifacts"

    def _record(self, experiment, model, seed):
        noisy = experiment == "noise"
        ids = np.arange(N_TRAIN) if noisy else np.arange(N_TRAIN, N_TRAIN + N_TEST)
        given = self.labels.copy()
        if noisy:
            wrong = np.random.default_rng(seed).permutation(N_TRAIN)[: N_TRAIN // 10]
            given[wrong] = (given[wrong] + 1) % 10
        network = MLPClassifier(LAYERS[model], learning_rate_init=0.01, random_state=seed)
        options = {"spool": self.folder / "spool", "model": model, "class_names": range(10)}
        with self._run(experiment, model, seed), Recorder(_split(noisy), **options) as recorder:
            recorder.describe_samples(
                ids,
                labels=given[ids],
                true_labels=self.labels[ids] if noisy else None,
                input_digests=[digest_input(self.inputs[each]) for each in ids],
            )
            for _ in range(EPOCHS):
                network.partial_fit(self.inputs[:N_TRAIN], given[:N_TRAIN], classes=np.arange(10))
                p = network.predict_proba(self.inputs[ids])
                recorder.update(ids, logits=np.log(p), labels=given[ids])
                recorder.end_epoch()
            recorder.log_probabilities(ids, p)
            recorder.log_features(ids, self.inputs[ids])
            recorder.log_thumbnails(ids, [_png(self.inputs[each]) for each in ids])

    def _record_pixels(self):
        ids = np.arange(12)
        options = {"spool": self.folder / "spool", "class_names": ("paper", "ink")}
        options |= {"pixel_loss_name": "squared_error", "loss_name": "squared_error"}
        images = self.inputs[ids].reshape(-1, 8, 8)
        with self._run("pixels", "mean", 0), Recorder("test", **options) as recorder:
            guess = np.zeros((8, 8))
            for epoch in range(3):
                errors = (images - guess) ** 2
                recorder.update(ids, errors.mean(axis=(1, 2)))
                recorder.update_maps(ids, errors)
                recorder.end_epoch()
                guess = images[: 4 * (epoch + 1)].mean(axis=0)
            masks = [_png((each > 0.5) / 255) for each in images]
            recorder.log_pictures("label", ids, masks)
            recorder.log_thumbnails(ids, [_png(each) for each in images])

    def _run(self, experiment, model, seed):
        mlflow.set_experiment(experiment)
        run = mlflow.start_run(run_name=f"{model}-{seed}")
        mlflow.log_params({"model": model, "seed": seed, "dataset": "cifar10"})
        self.runs.setdefault(experiment, []).append(run.info.run_id)
        return run


def _split(noisy):
    return "train" if noisy else "test"


def _png(image):
    stream = io.BytesIO()
    Image.fromarray(np.round(255 * image.reshape(8, 8)).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
