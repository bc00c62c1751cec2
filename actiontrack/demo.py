"""A small store to look around in: two models, two seeds each, on digits some of which are wrong.

Everything is trained here and now, on the images of handwritten digits that scikit-learn ships;
nothing is downloaded.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actiontrack.errors import DataError, writing
from actiontrack.store import Store

__all__ = ["DATABASE", "make_demo"]

#: Name of the database in the folder of a demo.
DATABASE = "mlflow.db"

_N_TRAIN = 1297
_WRONG = 0.04  # share of the training labels
_EPOCHS = 12
_SEEDS = 2


def make_demo(folder: Path, tell: Callable[[str], None]) -> str:
    """Train four models and record what they find hard.

    Args:
        folder: where the store is made: new, or empty.
        tell: gets a line for each training.

    Returns:
        The tracking URI.

    Raises:
        DataError: if the folder is not empty.
        StoreError: if it can't be written.
    """
    with writing(folder, "folder"):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"{folder} is not empty. Name another folder, or empty it.")
    uri = f"sqlite:///{folder.resolve() / DATABASE}"
    data = _Digits()
    with contextlib.chdir(folder):  # MLflow puts the artifacts below it
        store = Store(uri)
        for seed in range(_SEEDS):
            for name, estimator in _models(seed):
                tell(f"training {name}, seed {seed}")
                _train(store, data, name, estimator, seed)
    return uri


class _Digits:
    """Digits in a training and a test split; of the training labels some are drawn anew."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - slow

        digits = load_digits()
        rng = np.random.default_rng(0)
        order = rng.permutation(len(digits.target))
        self.ids = {"train": order[:_N_TRAIN], "test": order[_N_TRAIN:]}
        self.images, self.inputs, self.truth = digits.images, digits.data / 16, digits.target
        self.labels = self.truth.copy()
        wrong = rng.choice(self.ids["train"], round(_WRONG * _N_TRAIN), replace=False)
        self.labels[wrong] = (self.labels[wrong] + rng.integers(1, 10, wrong.size)) % 10
        self.class_names = [str(name) for name in digits.target_names]


def _models(seed: int) -> Iterator[tuple[str, Any]]:
    from sklearn.linear_model import SGDClassifier  # noqa: PLC0415 - slow
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    yield "logistic", SGDClassifier(loss="log_loss", alpha=0.003, random_state=seed)
    yield "mlp", MLPClassifier(64, batch_size=32, random_state=seed)


def _train(store: Store, data: _Digits, name: str, estimator: Any, seed: int) -> None:
    from actiontrack.recorder.sklearn import ProbeRecorder  # noqa: PLC0415 - slow

    with contextlib.ExitStack() as stack:
        run = stack.enter_context(store.run(name=f"{name} {seed}"))
        store.log_params(run.run_id, {"model": name, "dataset": "digits", "seed": seed})
        probes = []
        for split, ids in data.ids.items():
            probe = ProbeRecorder(
                data.inputs[ids],
                data.labels[ids],
                ids=ids,
                split=split,
                store=store,
                run_id=run.run_id,
                model=name,
                class_names=data.class_names,
                loss_name="cross_entropy",
                verbose=False,
            )
            stack.enter_context(probe)
            probe.begin().describe_samples(
                ids,
                labels=data.labels[ids],
                true_labels=data.truth[ids] if split == "train" else None,
                images=data.images[ids],
            )
            probes.append(probe)
        train = data.ids["train"]
        order = np.random.default_rng(seed)
        for _ in range(_EPOCHS):
            rows = order.permutation(train)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what scikit-learn says of a training that goes on
                estimator.partial_fit(data.inputs[rows], data.labels[rows], classes=range(10))
            for probe in probes:
                probe.after_step(estimator)
