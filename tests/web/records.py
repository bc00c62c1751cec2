"""Records for the tests of the pages: real trainings on digits, written by the real recorder.

Everything takes seconds: 200 test images, classifiers of scikit-learn, a logistic regression per
pixel, and boxes around digits on a canvas.
"""

import contextlib
import io
import itertools
import re
import warnings
from pydoc_data.topics import topics

import mlflow
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from actiontrack.analysis import slices
from actiontrack.recorder import Recorder
from actiontrack.store import Store

N_TEST, N_TRAIN, EPOCHS, N_WRONG = 200, 500, 12, 8
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOSTILE = (
    '<img src=x onerror="document.title=1">', "{{ 7*7 }}", "a&b=c", "'\"><script>alert(1)</script>",
    "{bold|x}", "../../etc", "%00", "naïve ü 猫", "=1+1", "javascript:alert(1)",
)  # fmt: skip


def png(array, size=None):
    """The PNG of an array of pixel values from 0 to 255."""
    image = Image.fromarray(np.asarray(array, dtype=np.uint8))
    if size is not None:
        image = image.resize(size, Image.Resampling.NEAREST)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def classifier(
    store, experiment, model, seed, *, names=NAMES, ids=None, features=True, images=True, tags=None
):
    """Train a small network, record the loss of every test image after each epoch.

    Args:
        model: "linear" or "mlp".
        ids: of the test images. Default: integers.

    Returns:
        Id of the run.
    """
    data = load_digits()
    pixels, labels = data.data / 16, data.target
    train, test = slice(0, N_TRAIN), slice(N_TRAIN, N_TRAIN + N_TEST)
    given, ids = _with_wrong_labels(labels[test]), np.arange(N_TEST) if ids is None else ids
    hidden = (24,) if model == "mlp" else ()
    network = MLPClassifier(hidden, learning_rate_init=0.01, batch_size=50, random_state=seed)
    params = {"dataset": "digits", "model": model, "seed": seed, "lr": 0.01}
    with _run(store, experiment, f"{model}-{seed}", params, tags) as run_id:
        recorder = Recorder(
            "test", model=model, class_names=names, run_id=run_id, store=store,
            loss_name="cross_entropy",
        )  # fmt: skip
        with recorder, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            recorder.describe_samples(ids, labels=given, true_labels=labels[test])
            for _ in range(EPOCHS):
                network.partial_fit(pixels[train], labels[train], classes=np.arange(10))
                probabilities = network.predict_proba(pixels[test])
                logits = np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
                recorder.update(ids, logits=logits, labels=given)
                recorder.end_epoch()
            recorder.log_probabilities(ids, np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
            if features:
                recorder.log_features(ids, _features(network, pixels[test]))
            if images:
                recorder.log_thumbnails(ids, [png(each * 255 / 16) for each in data.images[test]])
    return run_id


def training(store, experiment):
    """A run that recorded the images that it was trained on, of which 50 labels are wrong."""
    data, ids = load_digits(), np.arange(N_TRAIN)
    pixels, truth = data.data[:N_TRAIN] / 16, data.target[:N_TRAIN]
    given = np.where(ids % 10 == 0, (truth + 1) % 10, truth)
    network = MLPClassifier((24,), learning_rate_init=0.01, batch_size=50, random_state=0)
    with _run(store, experiment, "taught", {"dataset": "digits", "model": "pupil"}) as run_id:
        recorder = Recorder("train", model="pupil", class_names=NAMES, run_id=run_id, store=store)
        with recorder, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            recorder.describe_samples(ids, labels=given)
            for _ in range(EPOCHS):
                network.partial_fit(pixels, given, classes=np.arange(10))
                probabilities = np.maximum(network.predict_proba(pixels), 1e-12)
                recorder.update(ids, logits=np.log(probabilities), labels=given)
                recorder.end_epoch()
            recorder.log_thumbnails(ids, [png(each * 255 / 16) for each in data.images[:N_TRAIN]])
    return run_id


def interrupted(store, experiment):
    """A run whose training stopped after two epochs, without features and images."""
    rng = np.random.default_rng(3)
    with _run(store, experiment, "stopped", {"dataset": "digits", "model": "linear"}) as run_id:
        recorder = Recorder("test", model="linear", class_names=NAMES, run_id=run_id, store=store)
        labels = load_digits().target[:50]
        for _ in range(2):
            recorder.update(np.arange(50), logits=rng.normal(size=(50, 10)), labels=labels)
            recorder.end_epoch()
        recorder.close()
    return run_id


def regression(store, experiment):
    """A run without labels, classes, images and features: a loss per sample and nothing else."""
    rng = np.random.default_rng(4)
    inputs, weights = rng.normal(size=(60, 3)), np.zeros(3)
    targets = inputs @ [1.0, -2.0, 0.5] + rng.normal(scale=0.3, size=60)
    with _run(store, experiment, "regression", {}) as run_id:
        recorder = Recorder("test", run_id=run_id, store=store, loss_name="squared_error")
        with recorder:
            for _ in range(6):
                errors = inputs @ weights - targets
                weights = weights - 0.1 * inputs.T @ errors / 60
                recorder.update([f"house {each}" for each in range(60)], errors**2)
                recorder.end_epoch()
    return run_id


def segmentation(store, experiment):
    """Foreground of digits, pixel by pixel: maps, label and prediction pictures."""
    data = load_digits()
    images = np.kron(data.images[:24] / 16, np.ones((1, 4, 4)))
    truth = (images > 0.5).astype(np.uint8)
    blurred = (images + np.roll(images, 3, axis=1) + np.roll(images, 3, axis=2)) / 3
    inputs = np.stack([blurred, np.ones_like(blurred)], axis=-1)
    weights, ids, chance = np.zeros(2), np.arange(24), np.full(images.shape, 0.5)
    params = {"dataset": "digits", "model": "pixelwise"}
    with _run(store, experiment, "foreground", params) as run_id:
        recorder = Recorder(
            "test", model="pixelwise", run_id=run_id, store=store, loss_name="cross_entropy",
            pixel_loss_name="cross_entropy", class_names=("background", "foreground"),
        )  # fmt: skip
        with recorder:
            for _ in range(5):
                slope = ((chance - truth)[..., None] * inputs).mean(axis=(0, 1, 2))
                weights = weights - 4 * slope
                chance = 1 / (1 + np.exp(-(inputs @ weights)))
                losses = -np.log(np.where(truth, chance, 1 - chance)).astype(np.float32)
                recorder.update(ids, losses.mean(axis=(1, 2)))
                recorder.update_maps(ids, losses)
                recorder.end_epoch()
            recorder.log_thumbnails(ids, [png(each * 255) for each in images])
            recorder.log_pictures("label", ids, [_palette(each) for each in truth])
            recorder.log_pictures("prediction", ids, [_palette(each > 0.5) for each in chance])
    return run_id


def detection(store, experiment):
    """Digits on a canvas, with an annotated and a predicted box each."""
    rng = np.random.default_rng(5)
    digits, ids, rows, images = load_digits().images[:16], np.arange(16), [], []
    for number, digit in zip(ids, digits, strict=True):
        canvas = np.full((60, 80), 24.0)
        top, left = rng.integers(0, 28), rng.integers(0, 48)
        canvas[top : top + 32, left : left + 32] += np.kron(digit, np.ones((4, 4))) * 12
        images.append(png(canvas))
        off = rng.normal(scale=4, size=4)
        box = {"sample_id": number, "class": "digit", "width": 80, "height": 60}
        sides = {"left": left, "top": top, "right": left + 32, "bottom": top + 32}
        guess = {key: float(value + d) for (key, value), d in zip(sides.items(), off, strict=True)}
        rows += [box | {"kind": "truth", "score": np.nan} | sides]
        rows += [box | {"kind": "predicted", "score": 0.8} | guess]
    boxes = pd.DataFrame(rows)
    sides = ["left", "top", "right", "bottom"]
    truth, guess = (boxes.loc[boxes["kind"] == each, sides] for each in ("truth", "predicted"))
    error = np.abs(truth.to_numpy() - guess.to_numpy()).sum(axis=1)
    with _run(store, experiment, "boxes", {}) as run_id:
        recorder = Recorder("test", model="guess", run_id=run_id, store=store, loss_name="L1")
        with recorder:
            for epoch in range(4):
                recorder.update(ids, (error / (epoch + 1)).astype(np.float32))
                recorder.end_epoch()
            recorder.log_thumbnails(ids, images)
            recorder.log_boxes(boxes)
    return run_id


def language(store, experiment):
    """What Python's manual says of topics, word by word, predicted from the word before.

    The tokens of documents 0 to 11 are recorded, of 12 without a text. Document 3 is hostile.
    """
    texts = [" ".join(topics[name].split()[4:44]) for name in sorted(topics)[:24]]
    texts[3] = " ".join(HOSTILE)
    documents = [re.findall(r"\s*\S+", text) for text in texts]
    words = sorted({word for document in documents for word in document})
    tokens = [np.array([words.index(word) for word in document]) for document in documents]
    weights = np.zeros((len(words), len(words)))
    with _run(store, experiment, "bigrams", {"dataset": "manual", "model": "bigram"}) as run_id:
        recorder = Recorder(
            "train", mode="inline", model="bigram", run_id=run_id, store=store,
            loss_name="cross_entropy", pixel_loss_name="token_cross_entropy",
        )  # fmt: skip
        with recorder:
            for _ in range(3):
                losses = [_next_words(weights, document) for document in tokens]
                counts = [len(document) - 1 for document in tokens]
                means = [np.mean(each) for each in losses]
                recorder.update(np.arange(24), means, components={"n_tokens": counts})
                maps = [np.array([[np.nan, *each]], np.float32) for each in losses[:13]]
                recorder.update_maps(np.arange(13), maps)
                recorder.end_epoch()
            recorder.log_tokens(np.arange(12), documents[:12])
    return run_id


def _next_words(weights, document):
    """Losses of the words of a document but the first; a step of gradient descent follows each."""
    losses = []
    for before, after in itertools.pairwise(document):
        chances = np.exp(weights[before]) / np.exp(weights[before]).sum()
        losses.append(-np.log(chances[after]))
        weights[before] -= chances
        weights[before, after] += 1
    return losses


def attributes(other):
    """Of the test images: torn are the 40 that were hardest for another model; their ink."""
    action = other.history().losses.sum(axis=0)
    scan = np.where(action >= np.sort(action)[-40], "torn", "whole")
    ink = load_digits().images[N_TRAIN : N_TRAIN + N_TEST].mean(axis=(1, 2))
    return pd.DataFrame({"sample_id": np.arange(N_TEST), "scan": scan, "ink": ink})


def everything(tracking_uri):
    """All of the above on one server; name to run id."""
    store = Store(tracking_uri)
    runs = {
        f"{model}-{seed}": classifier(store, "digits", model, seed, tags={"owner": "ada"})
        for model in ("linear", "mlp")
        for seed in (0, 1)
    }
    other = store.open_record(runs["linear-0"])
    slices.add_metadata(store.open_record(runs["mlp-0"]), attributes(other))
    ids = [f"{name} {each}" for each in range(N_TEST // 10) for name in HOSTILE]
    runs["hostile"] = classifier(
        store, "<i>hostile</i>", "linear", 7, names=HOSTILE, ids=ids, features=False
    )
    runs["training"] = training(store, "others")
    runs["stopped"] = interrupted(store, "digits")
    runs["regression"] = regression(store, "others")
    runs["segmentation"] = segmentation(store, "others")
    runs["detection"] = detection(store, "others")
    runs["language"] = language(store, "others")
    return runs


@contextlib.contextmanager
def _run(store, experiment, name, params, tags=None):
    client = mlflow.MlflowClient(tracking_uri=store.tracking_uri)
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else client.create_experiment(experiment)
    run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    store.log_params(run_id, params)
    yield run_id
    client.set_terminated(run_id)


def _with_wrong_labels(labels):
    rng = np.random.default_rng(0)
    given = labels.copy()
    rows = rng.choice(len(labels), N_WRONG, replace=False)
    given[rows] = (given[rows] + rng.integers(1, 10, N_WRONG)) % 10
    return given


def _features(network, pixels):
    if len(network.coefs_) == 1:
        return pixels.astype(np.float32)
    return np.maximum(pixels @ network.coefs_[0] + network.intercepts_[0], 0).astype(np.float32)


def _palette(mask):
    image = Image.fromarray(np.asarray(mask, dtype=np.uint8), "P")
    image.putpalette([40, 40, 60, 230, 159, 0])
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()
