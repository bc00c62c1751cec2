# ruff: noqa: ARG002 - the libraries' own signatures
import keras
import mlflow
import numpy as np
import pytest
from helpers import message
from sklearn.datasets import load_diabetes

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.keras import ActionTrackCallback

N = 40


class Predictions(keras.callbacks.Callback):
    """Keeps what the model says at the end of each epoch."""

    def __init__(self, inputs):
        super().__init__()
        self.inputs, self.outputs = inputs, []

    def on_epoch_end(self, epoch, logs=None):
        self.outputs.append(self.model.predict(self.inputs, verbose=0))


@pytest.fixture
def train(digits, run_id):
    """Train for two epochs in the active run. Returns the probe's outputs after each."""
    inputs, labels = digits

    def fit(*callbacks, units=10, activation="softmax", loss=None, labels=labels, **options):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dropout(0.3), keras.layers.Dense(units, activation=activation)]
        model = keras.Sequential([keras.Input((64,)), *layers])
        model.compile("adam", loss or "sparse_categorical_crossentropy")
        outputs = Predictions(inputs[:N])
        settings = {"epochs": 2, "batch_size": 16, "verbose": 0} | options
        if not mlflow.active_run():
            mlflow.start_run(run_id=run_id)
        model.fit(inputs, labels, callbacks=[*callbacks, outputs], **settings)
        return np.stack(outputs.outputs)

    return fit


@pytest.mark.parametrize("form", ["indices", "column", "one-hot"])
def test_the_model_is_recorded_after_each_epoch(train, digits, history, complete, run_id, form):
    inputs, labels = digits[0][:N], digits[1][:N]
    given = {"indices": labels, "column": labels[:, None], "one-hot": np.eye(10)[labels]}[form]
    outputs = train(ActionTrackCallback(inputs, given))
    recorded = history(run_id)
    expected = -np.log(outputs[:, np.arange(N), labels])
    np.testing.assert_allclose(recorded.losses, expected, rtol=1e-4, atol=1e-6)
    assert recorded.labels.tolist() == labels.tolist()
    assert complete(run_id)


def test_logits_are_taken_as_such(train, digits, history, run_id, cross_entropy):
    inputs, labels = digits[0][:N], digits[1][:N]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    track = ActionTrackCallback(inputs, labels, from_logits=True)
    outputs = train(track, activation=None, loss=loss)
    expected = [cross_entropy(each, labels) for each in outputs]
    np.testing.assert_allclose(history(run_id).losses, expected, rtol=1e-4, atol=1e-6)


def test_one_sigmoid_unit_is_a_classifier_of_two_classes(train, digits, history, run_id):
    inputs, labels = digits[0], digits[1] % 2
    track = ActionTrackCallback(inputs[:N], labels[:N])
    outputs = train(
        track, units=1, activation="sigmoid", loss="binary_crossentropy", labels=labels
    )[..., 0]
    expected = -np.log(np.where(labels[:N] == 1, outputs, 1 - outputs))
    np.testing.assert_allclose(history(run_id).losses, expected, rtol=1e-4, atol=1e-6)


def test_a_regression_names_its_loss(history, run_id):
    inputs, targets = load_diabetes(return_X_y=True)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    track = ActionTrackCallback(inputs[:N], targets[:N], loss="squared_error", run_id=run_id)
    model.fit(inputs, targets, epochs=1, verbose=0, callbacks=[track])
    expected = (model.predict(inputs[:N], verbose=0)[:, 0] - targets[:N]) ** 2
    np.testing.assert_allclose(history(run_id).losses[0], expected, rtol=1e-4)


@pytest.mark.parametrize(("kind", "deltas"), [("epoch", [1, 1]), ("batch", [8, 8])])
def test_a_step_weighs_an_epoch_or_its_updates(train, digits, history, run_id, kind, deltas):
    train(ActionTrackCallback(digits[0][:N], digits[1][:N], delta_kind=kind))
    assert history(run_id).deltas.tolist() == deltas


def test_an_error_in_training_keeps_the_epochs_before(train, digits, history, complete, run_id):
    class Failing(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise ZeroDivisionError

    track = ActionTrackCallback(digits[0][:N], digits[1][:N])
    with pytest.raises(ZeroDivisionError), track:
        train(track, Failing())
    assert history(run_id).steps.tolist() == [1]
    assert not complete(run_id)


def test_training_that_goes_on_continues_the_record(train, digits, history, run_id):
    probe = digits[0][:N], digits[1][:N]
    train(ActionTrackCallback(*probe))
    train(ActionTrackCallback(*probe, resume=True), initial_epoch=2, epochs=3)
    assert history(run_id).steps.tolist() == [1, 2, 3]


def test_without_a_run_training_does_not_begin(digits):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        model.fit(*digits, verbose=0, callbacks=[ActionTrackCallback(*digits)])


def classifier(units=3, activation=None, loss="sparse_categorical_crossentropy", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, activation=activation)])
    model.compile(options.pop("optimizer", "sgd"), loss, **options)
    return model


LOSSES = keras.losses
INDICES, ONE_HOT, YES_NO = "indices", "one-hot", "yes/no"


@pytest.mark.parametrize(
    ("activation", "loss", "form", "name"),
    [
        ("softmax", "sparse_categorical_crossentropy", INDICES, "cross_entropy"),
        ("softmax", "categorical_crossentropy", ONE_HOT, "cross_entropy"),
        (None, LOSSES.SparseCategoricalCrossentropy(from_logits=True), INDICES, "cross_entropy"),
        (None, LOSSES.CategoricalCrossentropy(from_logits=True), ONE_HOT, "cross_entropy"),
        ("sigmoid", "binary_crossentropy", ONE_HOT, "binary_cross_entropy"),
        (None, LOSSES.BinaryCrossentropy(from_logits=True), ONE_HOT, "binary_cross_entropy"),
        ("sigmoid", LOSSES.BinaryCrossentropy(), YES_NO, "binary_cross_entropy"),
        ("softmax", "mse", ONE_HOT, "squared_error"),
        ("softmax", "mae", ONE_HOT, "absolute_error"),
        (
            "softmax",
            LOSSES.CategoricalFocalCrossentropy(),
            ONE_HOT,
            "categorical_focal_crossentropy",
        ),
        ("softmax", "kl_divergence", ONE_HOT, "kl_divergence"),
        (None, LOSSES.Huber(0.3), ONE_HOT, "huber"),
    ],
)
def test_the_compiled_loss_is_what_is_recorded(digits, store, run_id, activation, loss, form, name):
    inputs, labels = digits[0][:60], digits[1][:60] % 3
    one_hot = np.eye(3, dtype=np.float32)[labels]
    targets = {INDICES: labels, ONE_HOT: one_hot, YES_NO: np.cumsum(one_hot, axis=1)}[form]
    model = classifier(activation=activation, loss=loss)
    track = ActionTrackCallback(inputs[:N], targets[:N], run_id=run_id)
    validation = inputs[:N], targets[:N]
    reported = model.fit(
        inputs, targets, epochs=2, verbose=0, callbacks=[track], validation_data=validation
    ).history["val_loss"]
    record = store.open_record(run_id, "test-probe")
    np.testing.assert_allclose(record.history().losses.mean(axis=1), reported, rtol=1e-5)
    assert record.manifest.loss_name == name
    assert record.manifest.notes == {"loss_check": "agrees"}


@pytest.mark.parametrize("from_logits", [True, False])
def test_one_output_is_a_classifier_of_two_classes(digits, store, run_id, from_logits):
    inputs, labels = digits[0][:60], digits[1][:60] % 2
    loss = LOSSES.BinaryCrossentropy(from_logits=from_logits)
    model = classifier(1, None if from_logits else "sigmoid", loss)
    track = ActionTrackCallback(inputs[:N], labels[:N], run_id=run_id)
    model.fit(inputs, labels, verbose=0, callbacks=[track])
    record = store.open_record(run_id, "test-probe")
    expected = model.evaluate(inputs[:N], labels[:N], verbose=0)
    assert record.history().losses[0].mean() == pytest.approx(expected, rel=1e-5)
    assert record.manifest.loss_name == "cross_entropy"


def test_smoothed_labels_are_a_component_beside_the_plain_loss(digits, store, run_id):
    inputs, labels = digits[0][:60], np.eye(10)[digits[1][:60]]
    loss = LOSSES.CategoricalCrossentropy(label_smoothing=0.2)
    model = classifier(10, "softmax", loss)
    data = inputs[:N], labels[:N]
    track = ActionTrackCallback(*data, run_id=run_id)
    model.fit(inputs, labels, verbose=0, callbacks=[track], validation_data=data)
    record = store.open_record(run_id, "test-probe")
    p = model.predict(inputs[:N], verbose=0)
    expected = -np.log((p * labels[:N]).sum(axis=1))
    np.testing.assert_allclose(record.history().losses[0], expected, rtol=1e-4)
    smoothed = record.history().components["training_loss"][0].mean()
    assert smoothed == pytest.approx(model.evaluate(*data, verbose=0), rel=1e-5)
    assert record.manifest.notes == {"loss_check": "agrees"}


def test_regularisation_is_no_loss_of_a_sample(digits, store, run_id):
    inputs, labels = digits[0][:60], digits[1][:60]
    model = classifier(10, "softmax")
    model.layers[0].kernel.regularizer = keras.regularizers.L2(0.1)
    model.compile("sgd", "sparse_categorical_crossentropy")
    data = inputs[:N], labels[:N]
    track = ActionTrackCallback(*data, run_id=run_id)
    history = model.fit(inputs, labels, verbose=0, callbacks=[track], validation_data=data).history
    record = store.open_record(run_id, "test-probe")
    assert record.history().losses[0].mean() < history["val_loss"][0] - 0.01
    assert record.manifest.notes == {"loss_check": "agrees"}


@pytest.mark.parametrize("swap", [False, True])
def test_averaged_weights_are_scored_as_fit_leaves_them(digits, store, run_id, swap):
    inputs, labels = digits[0][:60], digits[1][:60]
    model = classifier(10, "softmax", optimizer=keras.optimizers.Adam(0.05, use_ema=True))
    data = inputs[:N], labels[:N]
    track = ActionTrackCallback(*data, run_id=run_id)
    callbacks = [*([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] * swap), track]
    model.fit(inputs, labels, epochs=2, verbose=0, callbacks=callbacks, validation_data=data)
    record = store.open_record(run_id, "test-probe")
    expected = model.evaluate(*data, verbose=0)
    assert record.history().losses[-1].mean() == pytest.approx(expected, rel=1e-5)
    assert record.manifest.notes["weights"] == "averaged"
    assert record.manifest.notes.get("loss_check") == ("agrees" if swap else None)


def test_a_difference_from_keras_is_told_and_the_training_goes_on(digits, store, run_id, caplog):
    inputs, labels = digits[0][:60], digits[1][:60]

    class Moving(keras.callbacks.Callback):
        """Changes the model between the validation and the record."""

        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[0].bias.assign(np.arange(10.0))

    data = inputs[:N], labels[:N]
    callbacks = [Moving(), ActionTrackCallback(*data, run_id=run_id)]
    model = classifier(10, "softmax")
    history = model.fit(
        inputs, labels, epochs=2, verbose=0, callbacks=callbacks, validation_data=data
    ).history
    record = store.open_record(run_id, "test-probe")
    mean = record.history().losses[0].mean()
    text = (
        f"step 1: the mean of the recorded losses is {mean:.6g}, Keras's val_loss reports "
        f"{history['val_loss'][0]:.6g} for the same 40 samples"
    )
    assert record.manifest.notes["loss_check"] == f"differs at {text}"
    assert text in caplog.text
    assert record.manifest.complete


@pytest.mark.parametrize(
    ("options", "track", "text"),
    [
        (
            {"loss": LOSSES.SparseCategoricalCrossentropy(from_logits=True)},
            {"from_logits": False},
            "from_logits: must be True, as in the compiled loss, got False. Leave it out.",
        ),
        (
            {"loss": LOSSES.SparseCategoricalCrossentropy(ignore_class=3), "units": 10},
            {},
            (
                "labels: must not be the ignored class 3, as these samples have no loss, got 3. "
                "Leave these samples out of the probe."
            ),
        ),
        (
            {"units": 3},
            {},
            (
                "labels: must be class indices 0 to 2, got [3, 4, 5]. "
                "Encode them as 0, 1, …, in the order of the classes in training."
            ),
        ),
        (
            {"loss": lambda _, outputs: keras.ops.mean(outputs)},
            {},
            (
                "loss: must be given, as <lambda> returns no loss per sample, got (). "
                "Pass loss=, a name or a function of (labels, outputs) that returns a loss per "
                "sample."
            ),
        ),
        (
            {"loss": None},
            {},
            (
                "loss: must be given for a model that has no compiled loss, got 'activation "
                "linear'. Pass loss=, a name or a function of (labels, outputs) that returns a "
                "loss per sample."
            ),
        ),
    ],
)
def test_what_cannot_be_reproduced_is_refused_before_training(digits, run_id, options, track, text):
    inputs, labels = digits[0][:N], digits[1][:N]
    model = classifier(**options)
    callback = ActionTrackCallback(inputs, labels, run_id=run_id, **track)
    before = model.get_weights()
    with pytest.raises(ParameterError, match=message(text)):
        model.fit(inputs, labels, verbose=0, callbacks=[callback])
    assert callback.recorder is None
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_outputs_that_are_no_probabilities_are_refused_before_training(digits, run_id):
    inputs, labels = digits[0][:N], digits[1][:N]
    model = classifier(10)  # logits, compiled without from_logits
    text = (
        r"^outputs: must be probabilities between 0 and 1, as the loss takes them, got '-.* to .*'"
        r"\. Compile the loss with from_logits=True, or end with a softmax or sigmoid\.$"
    )
    track = ActionTrackCallback(inputs, labels, run_id=run_id)
    with pytest.raises(ParameterError, match=text):
        model.fit(inputs, labels, verbose=0, callbacks=[track])


def test_several_outputs_are_refused_before_training(digits, run_id):
    inputs, labels = digits[0][:N], digits[1][:N]
    layer = keras.Input((64,))
    model = keras.Model(layer, [keras.layers.Dense(10)(layer), keras.layers.Dense(2)(layer)])
    model.compile("sgd", [LOSSES.SparseCategoricalCrossentropy(from_logits=True)] * 2)
    track = ActionTrackCallback(inputs, labels, run_id=run_id)
    with pytest.raises(
        ParameterError, match=r"^model: must have one output, got '2 outputs'\. Rec"
    ):
        model.fit(inputs, [labels, labels % 2], verbose=0, callbacks=[track])


JAX = """
import sys
import keras
import numpy as np
from sklearn.datasets import load_digits
import mlflow
from actiontrack.recorder.keras import ActionTrackCallback

inputs, labels = load_digits(return_X_y=True)
model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
mlflow.set_tracking_uri(sys.argv[1])
track = ActionTrackCallback(inputs[:40] / 16, labels[:40], run_id=sys.argv[2])
model.fit(inputs / 16, labels, epochs=2, verbose=0, callbacks=[track])
np.save(sys.argv[3], model.predict(inputs[:40] / 16, verbose=0))
"""


def test_the_backend_may_be_jax(in_warm_process, digits, history, tracking_uri, run_id, tmp_path):
    path = tmp_path / "p.npy"
    in_warm_process(JAX, tracking_uri, run_id, path, KERAS_BACKEND="jax", OMP_NUM_THREADS="1")
    expected = -np.log(np.load(path)[np.arange(N), digits[1][:N]])
    np.testing.assert_allclose(history(run_id).losses[-1], expected, rtol=1e-4, atol=1e-6)
