"""Records for tests, and the tests that every adapter must pass: ours and those of others.

Genuine losses in milliseconds, no dataset, no torch:

>>> history = make_history(n_steps=3, n_samples=5, n_classes=3)
>>> history.losses.shape
(3, 5)
"""

import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from actiontrack.history import IdArray, LossHistory
from actiontrack.recorder import Recorder
from actiontrack.recorder.batches import Batch, batch_of
from actiontrack.scores import classification_measures
from actiontrack.store import Store

__all__ = ["AdapterTests", "AdapterTraining", "make_history", "record_history"]

_N_FEATURES = 4
_LEARNING_RATE = 0.5


def make_history(
    n_steps: int = 3, n_samples: int = 5, n_classes: int = 3, seed: int = 0, **changes: Any
) -> LossHistory:
    """The history of a softmax regression, trained by gradient descent on overlapping classes.

    Args:
        n_steps: epochs of training.
        n_samples: samples, with ids from 0.
        n_classes: classes, at least 2.
        seed: of the data.
        changes: fields of `LossHistory` that are to differ, such as ``split="train"``.

    Returns:
        A valid history with every measure of `history.MEASURES`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n_samples)
    centres = rng.normal(size=(n_classes, _N_FEATURES))
    inputs = centres[labels] + rng.normal(size=(n_samples, _N_FEATURES))
    steps = _train(inputs, labels, n_classes, n_steps)
    grids = {name: np.stack([measures[name] for measures in steps]) for name in steps[0]}
    history = LossHistory(
        losses=grids.pop("cross_entropy"),
        sample_ids=np.arange(n_samples),
        labels=labels,
        measures=grids,
        class_names=tuple(f"class {index}" for index in range(n_classes)),
        loss_name="cross_entropy",
    )
    return replace(history, **changes)


def record_history(
    history: LossHistory, run_id: str, store: Store, spool: Path, model: str = ""
) -> bool:
    """Record a history into a run that exists, through a recorder, as training would have done.

    Args:
        history: at least one step.
        run_id: the MLflow run.
        store: the tracking server that holds it.
        spool: folder for the local copy.
        model: name of the model.

    Returns:
        Whether all of it is in the artifact store.
    """
    recorder = _Replay(
        history.split,
        mode=history.mode,
        run_id=run_id,
        store=store,
        model=model,
        class_names=history.class_names,
        loss_name=history.loss_name,
        delta_kind=history.delta_kind,
        allow_missing=True,
        allow_uniform=True,
        first_epoch=1,
        spool=spool,
    )
    with recorder:
        recorder.describe_samples(
            history.sample_ids, labels=history.labels, true_labels=history.true_labels
        )
        for row, step in enumerate(history.steps.tolist()):
            _replay_step(recorder, history, row)
            recorder.end_epoch(step, delta=float(history.deltas[row]))
    return recorder.synced


class _Replay(Recorder):
    """A recorder that is given the measures themselves, as a history no longer has the logits."""

    def _batch(self, size: int, **arguments: Any) -> Batch:
        measures: Mapping[str, Any] = arguments.pop("logits") or {}
        components = arguments.pop("components") or {}
        batch = batch_of(size, **arguments)
        return replace(batch, columns={**batch.columns, **measures, **components})


def _replay_step(recorder: Recorder, history: LossHistory, row: int) -> None:
    seen = history.seen[row]
    ids: IdArray = history.sample_ids[seen]
    recorder.update(
        ids,
        history.losses[row, seen],
        logits={name: values[row, seen] for name, values in history.measures.items()},
        labels=None if history.labels is None else history.labels[seen],
        components={name: values[row, seen] for name, values in history.components.items()},
    )


def _train(
    inputs: npt.NDArray[np.float64], labels: npt.NDArray[Any], n_classes: int, n_steps: int
) -> list[dict[str, npt.NDArray[Any]]]:
    """Measures of every sample after each epoch; one epoch is one step of gradient descent."""
    weights = np.zeros((inputs.shape[1], n_classes))
    one_hot = np.eye(n_classes)[labels]
    steps = []
    for _ in range(n_steps):
        scores = np.exp(inputs @ weights)
        gradient = inputs.T @ (scores / scores.sum(axis=1, keepdims=True) - one_hot)
        weights -= _LEARNING_RATE * gradient / len(labels)
        logits = (inputs @ weights).astype(np.float32)
        steps.append(classification_measures(logits, labels))
    return steps


@dataclass(frozen=True, kw_only=True)
class AdapterTraining:
    """What one training of `AdapterTests.train` leaves behind.

    Attributes:
        ids: (n_samples,) the ids that the adapter was given, in the order of `losses`.
        losses: (n_steps, n_samples) losses of the samples after each recorded step, as the
            framework's own loss or metric gives them; never by way of the adapter.
        weights: arrays of the trained model, always in the same order.
    """

    ids: Sequence[Any]
    losses: npt.ArrayLike
    weights: Sequence[npt.ArrayLike]


class AdapterTests:
    """Tests of an adapter: subclass it in a test module of yours, and write the two trainings.

    pytest collects the subclass if its name begins with "Test". Three trainings serve all tests:
    one that is recorded, one that is not, one that fails.

    ::

        class TestMyAdapter(AdapterTests):
            def train(self, options):
                callbacks = [] if options is None else [MyCallback(test_loader, **options)]
                ...

            def train_until_error(self, options): ...
    """

    #: How far a recorded loss may be from the framework's, relative and absolute.
    rtol: ClassVar[float] = 1e-5
    atol: ClassVar[float] = 1e-6

    _folder: ClassVar[tempfile.TemporaryDirectory[str]]
    _recorded: ClassVar[tuple[AdapterTraining, LossHistory, bool, list[bytes]]]
    _plain: ClassVar[tuple[AdapterTraining, list[bytes]]]

    def train(self, options: Mapping[str, Any] | None) -> AdapterTraining:
        """Train a small model from a fixed seed, two steps at least.

        Args:
            options: for the adapter: ``run_id``, ``store`` and ``spool`` of a `Recorder`. None:
                train in the same way without the adapter.
        """
        raise NotImplementedError

    def train_until_error(self, options: Mapping[str, Any]) -> None:
        """Train as `train` does, with the adapter, and raise an error after the first step."""
        raise NotImplementedError

    def make_store(self, folder: Path) -> Store:
        """The tracking server of the tests. Default: a new one in a temporary folder."""
        return Store(f"sqlite:///{folder / 'mlflow.db'}")

    def test_recorded_losses_are_those_of_the_framework(self) -> None:
        """Each recorded loss is that of the framework, under the id of its sample."""
        training, history, _, _ = self._record()
        expected = np.asarray(training.losses, dtype=np.float64)
        rows = {sample: row for row, sample in enumerate(history.sample_ids.tolist())}
        recorded = history.losses[:, [rows[sample] for sample in training.ids]]
        np.testing.assert_allclose(recorded, expected, rtol=self.rtol, atol=self.atol)

    def test_the_record_holds_the_given_ids_and_no_others(self) -> None:
        """Ids are those that the adapter was given, whatever the order of the batches."""
        training, history, _, _ = self._record()
        assert sorted(history.sample_ids.tolist()) == sorted(training.ids)

    def test_the_record_is_complete_after_training(self) -> None:
        """The adapter finishes the record by itself."""
        _, _, complete, _ = self._record()
        assert complete

    def test_recording_does_not_change_the_model(self) -> None:
        """Weights are bit-identical with and without the adapter."""
        recorded, (plain, _) = self._record()[0], self._train_plainly()
        pairs = zip(recorded.weights, plain.weights, strict=True)
        for number, (with_adapter, without) in enumerate(pairs):
            message = f"array {number} of the weights differs"
            np.testing.assert_array_equal(with_adapter, without, err_msg=message)

    def test_recording_does_not_change_the_random_states(self) -> None:
        """Python's, NumPy's and PyTorch's generators end in the same state either way."""
        assert self._record()[3] == self._train_plainly()[1]

    def test_an_error_in_training_leaves_the_first_step(self) -> None:
        """The error goes through, and the record holds what was recorded before it."""
        with tempfile.TemporaryDirectory() as spool:
            store = self._store()
            with store.run(name="adapter tests: error") as run:
                options = {"run_id": run.run_id, "store": store, "spool": Path(spool)}
                _seed()
                try:
                    self.train_until_error(options)
                except NotImplementedError:
                    raise  # there is no such training
                except Exception:  # noqa: BLE001 - whichever error the training raises
                    history = store.open_record(run.run_id).history()
                else:
                    raise AssertionError("train_until_error raised no error")
        first = self._record()[1]
        assert history.steps.tolist() == first.steps[:1].tolist()
        np.testing.assert_array_equal(history.losses, first.losses[:1])

    def _store(self) -> Store:
        kind = type(self)
        if "_folder" not in vars(kind):
            kind._folder = tempfile.TemporaryDirectory(prefix="adapter-tests-")
        return self.make_store(Path(kind._folder.name))

    def _record(self) -> tuple[AdapterTraining, LossHistory, bool, list[bytes]]:
        """The recorded training, its history, whether it is complete, and the random states."""
        kind = type(self)
        if "_recorded" not in vars(kind):
            store = self._store()
            with store.run(name="adapter tests") as run:
                spool = Path(kind._folder.name) / "spool"
                _seed()
                training = self.train({"run_id": run.run_id, "store": store, "spool": spool})
                states = _random_states()
            record = store.open_record(run.run_id)
            kind._recorded = training, record.history(), record.manifest.complete, states
        return kind._recorded

    def _train_plainly(self) -> tuple[AdapterTraining, list[bytes]]:
        kind = type(self)
        if "_plain" not in vars(kind):
            _seed()
            kind._plain = self.train(None), _random_states()
        return kind._plain


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global generator is what frameworks draw from
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


def _random_states() -> list[bytes]:
    states = [repr(random.getstate()).encode()]
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    states.append(repr((name, np.asarray(keys).tobytes(), *rest)).encode())
    if torch := sys.modules.get("torch"):
        states.append(torch.get_rng_state().numpy().tobytes())
    return states
