"""What adapters cost a training: `python -m benchmarks.adapters`.

Scikit-learn's digits, drawn over and over, enlarged to 32 × 32 pixels for a small convolutional
network (Lightning, the Hugging Face Trainer, Keras on PyTorch), as they are for boosting. Each
training runs bare, with its framework's own validation pass, and recorded, in turns, from the same
weights. Inline: recorded against bare. A probe: what it adds to the bare training, against what the
framework's own pass over the same samples adds. Time is that of the process.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import lightgbm
import lightning.pytorch as pl
import numpy as np
import torch
import xgboost
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from actiontrack.recorder import keras as keras_adapter
from actiontrack.recorder import lightgbm as lightgbm_adapter
from actiontrack.recorder import xgboost as xgboost_adapter
from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.torch import IndexedDataset
from actiontrack.recorder.transformers import ActionTrackCallback as TrainerCallback
from actiontrack.recorder.transformers import ActionTrackTrainerMixin
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

_EPOCHS = 2
Ways = Mapping[str, Callable[[], Any]]


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, samples=4096, rounds=60, turns=3)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kinds = {
            "Lightning": _lightning,
            "Trainer": _trainer,
            "Keras": _keras,
            "XGBoost": _xgboost,
            "LightGBM": _lightgbm,
        }
        for name, make in kinds.items():
            _measure(
                name, make(_Runs(Path(folder)), _Data(given.samples), given.rounds), given.turns
            )
    return 0


def _measure(name: str, ways: Ways, turns: int) -> None:
    seconds = in_turns(ways, turns=turns, clock=time.process_time)
    details = {way: f"{Spread.of(taken)} s" for way, taken in seconds.items()}
    if "inline" in ways:
        keep(
            Figure(
                name=f"{name}, inline",
                against="the same training without it",
                value=ratios(seconds, "inline", "bare"),
                target="<= 1.02",
                details=details,
            )
        )
    turn = zip(seconds["probe"], seconds["validated"], seconds["bare"], strict=True)
    added = [(probe - bare) / (validated - bare) for probe, validated, bare in turn]
    keep(
        Figure(
            name=f"{name}, probe",
            against="its own validation pass",
            value=Spread.of(added),
            target="<= 1.1",
            details=details,
        ),
        Figure(
            name=f"{name}, training with a probe",
            against="the same training without it",
            value=ratios(seconds, "probe", "bare"),
        ),
    )


class _Runs:
    """Runs of a store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(f"sqlite:///{folder / 'mlflow.db'}")

    def __call__(self, train: Callable[[Mapping[str, Any]], Any]) -> Callable[[], Any]:
        """A training in a run of its own, which gets the options of its recorder."""

        def run() -> None:
            with self.store.run(name="benchmark") as started:
                train({"run_id": started.run_id, "store": self.store, "report": False})

        return run


class _Data:
    """Digits for training, and as many to evaluate."""

    def __init__(self, n: int) -> None:
        inputs, labels = load_digits(return_X_y=True)
        rows = np.random.default_rng(0).integers(len(labels), size=2 * n)
        self.flat, self.labels = (inputs[rows] / 16).astype(np.float32), labels[rows]
        self.images = self.flat.reshape(-1, 1, 8, 8).repeat(4, axis=2).repeat(4, axis=3)
        self.train, self.test = slice(n), slice(n, None)

    def tensors(self, rows: slice) -> TensorDataset:
        """Images and labels."""
        return TensorDataset(torch.tensor(self.images[rows]), torch.tensor(self.labels[rows]))


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 64, 10)),
    )


class _Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, images: Any) -> Any:
        return self.network(images)

    def training_step(self, batch: Any, _: int) -> Any:
        logits = self(batch[-2])
        return {"loss": nn.functional.cross_entropy(logits, batch[-1]), "logits": logits.detach()}

    def validation_step(self, batch: Any, _: int) -> Any:
        return nn.functional.cross_entropy(self(batch[-2]), batch[-1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def _lightning(runs: _Runs, data: _Data, rounds: int) -> Ways:
    del rounds
    train, test = IndexedDataset(data.tensors(data.train)), data.tensors(data.test)
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")

    def fit(*callbacks: Any, val: Any = None) -> None:
        trainer = pl.Trainer(
            max_epochs=_EPOCHS, accelerator="cpu", callbacks=[*callbacks], num_sanity_val_steps=0,
            **dict.fromkeys(off, False),
        )  # fmt: skip
        trainer.fit(_Module(), DataLoader(train, 128), val)

    return {
        "bare": fit,
        "validated": lambda: fit(val=DataLoader(test, 256)),
        "probe": runs(lambda given: fit(ActionTrackCallback(test, images=False, **given))),
        "inline": runs(
            lambda given: fit(ActionTrackCallback(split="train", mode="inline", **given))
        ),
    }


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = _network()

    def forward(self, images: Any, labels: Any = None) -> Any:
        logits = self.network(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class _Tracked(ActionTrackTrainerMixin, Trainer):
    pass


def _trainer(runs: _Runs, data: _Data, rounds: int) -> Ways:
    del rounds
    images, labels = torch.tensor(data.images), torch.tensor(data.labels)
    rows = [
        {"images": image, "labels": label, "sample_id": number}
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))
    ]
    test = [{name: row[name] for name in ("images", "labels")} for row in rows[data.test]]

    def fit(*callbacks: Any, kind: Any = Trainer, evaluate: str = "no") -> None:
        arguments = TrainingArguments(
            str(runs.folder / "out"), num_train_epochs=_EPOCHS, per_device_train_batch_size=128,
            per_device_eval_batch_size=256, report_to="none", use_cpu=True, disable_tqdm=True,
            save_strategy="no", logging_strategy="no", eval_strategy=evaluate,
            remove_unused_columns=kind is Trainer, dataloader_pin_memory=False,
        )  # fmt: skip
        trained = rows[data.train]
        kind(
            _Model(), arguments, train_dataset=trained, eval_dataset=test, callbacks=[*callbacks]
        ).train()

    return {
        "bare": fit,
        "validated": lambda: fit(evaluate="epoch"),
        "probe": runs(lambda given: fit(TrainerCallback(test, images=False, **given))),
        "inline": runs(
            lambda given: fit(TrainerCallback(split="train", mode="inline", **given), kind=_Tracked)
        ),
    }


def _keras(runs: _Runs, data: _Data, rounds: int) -> Ways:
    del rounds
    import keras  # noqa: PLC0415 - once its backend is chosen

    images = data.images.transpose(0, 2, 3, 1)
    test = images[data.test], data.labels[data.test]

    def fit(*callbacks: Any, **more: Any) -> None:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Conv2D(32, 3, padding="same", activation="relu"),
                layers.Conv2D(32, 3, padding="same", activation="relu"),
                *(layers.MaxPooling2D(4), layers.Flatten(), layers.Dense(10)),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        model.fit(
            images[data.train], data.labels[data.train], batch_size=128, epochs=_EPOCHS, verbose=0,
            callbacks=[*callbacks], **more,
        )  # fmt: skip

    def probe(given: Mapping[str, Any]) -> None:
        with keras_adapter.ActionTrackCallback(*test, batch_size=256, **given) as track:
            fit(track)

    return {
        "bare": fit,
        "validated": lambda: fit(validation_data=test, validation_batch_size=256),
        "probe": runs(probe),
    }


def _xgboost(runs: _Runs, data: _Data, rounds: int) -> Ways:
    train, test = (
        xgboost.DMatrix(data.flat[rows], data.labels[rows]) for rows in (data.train, data.test)
    )
    settings = {"objective": "multi:softprob", "num_class": 10, "nthread": 1}

    def fit(*callbacks: Any, evals: Sequence[Any] = ()) -> None:
        xgboost.train(
            settings, train, rounds, evals=list(evals), verbose_eval=False, callbacks=[*callbacks]
        )

    return {
        "bare": fit,
        "validated": lambda: fit(evals=[(test, "test")]),
        "probe": runs(lambda given: fit(xgboost_adapter.ActionTrackCallback(test, **given))),
    }


def _lightgbm(runs: _Runs, data: _Data, rounds: int) -> Ways:
    settings = {"objective": "multiclass", "num_class": 10, "num_threads": 1, "verbose": -1}

    def fit(*callbacks: Any, validated: bool = False) -> None:
        train = lightgbm.Dataset(data.flat[data.train], data.labels[data.train])
        test = train.create_valid(data.flat[data.test], data.labels[data.test])
        sets = [test] if validated else None
        lightgbm.train(settings, train, rounds, valid_sets=sets, callbacks=[*callbacks])

    def probe(given: Mapping[str, Any]) -> None:
        test = data.flat[data.test], data.labels[data.test]
        with lightgbm_adapter.ActionTrackCallback(*test, **given) as track:
            fit(track)

    return {"bare": fit, "validated": lambda: fit(validated=True), "probe": runs(probe)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
