"""Real training on digits: what the run holds afterwards, and that it repeats."""

import contextlib
import io
import json

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from trained import Trained, losses_digest

from actiontrack.analysis.slices import has_metadata, read_metadata
from actiontrack.errors import ParameterError, StoreError
from actiontrack.recorder import Recorder
from projects import train as training
from projects.datasets import load_dataset
from projects.loading import Normalisation
from projects.models import build_model
from projects.params import TrainParams, to_strings, validate

SMALL = {"model": "cnn3", "epochs": 2, "subset": 120, "test_subset": 50, "batch_size": 40}
SMALL |= {"device": "cpu", "threads": 1, "augment": "flip_crop", "report": False}
EVERYTHING = {"record": "test,train", "mode": "both", "record_initial": True, "save_model": True}
EVERYTHING |= {"save_features": True, "save_probabilities": True}


def params(**values):
    return validate(TrainParams, SMALL | values)


@pytest.fixture(scope="session")
def plain(train_once):
    """A training of which the test split is recorded."""
    return train_once(params())


@pytest.fixture(scope="session")
def everything(train_once):
    """The same training with all that can be recorded and logged."""
    return train_once(params(**EVERYTHING))


@pytest.fixture
def train(store, experiment):
    """A function that trains in a run of its own in the test's experiment."""
    mlflow.set_experiment(experiment)

    def go(**values):
        run, synced = training.train(params(**values), store)
        assert synced
        return Trained(store, store.get_run(run.run_id), None)

    return go


@pytest.fixture(scope="module")
def test_split():
    """The evaluated images in the order of their ids."""
    split = load_dataset(params())[1]
    return split.take(np.argsort(split.ids))


# ---------------------------------------------------------------- the run


def test_the_test_split_is_recorded_at_every_epoch(plain):
    assert plain.run.records == ("test-probe",)
    history = plain.record().history()
    assert history.losses.shape == (2, 50)
    assert history.loss_name == "cross_entropy"


def test_the_run_is_finished_and_has_parameters_tags_metrics_and_datasets(plain):
    run = plain.run
    assert run.status == "FINISHED"
    expected = to_strings(params())
    passing = {
        name: expected.pop(name)
        for name in ("checkpoint", "data_dir", "metadata", "report", "run_id")
    }
    assert {name: run.params[name] for name in expected} == expected
    assert not passing.keys() & run.params.keys()
    assert run.params["model_parameters"].isdigit()
    assert run.model == "cnn3"
    names = {"train/loss", "learning_rate", "test-probe/mean_loss", "test-probe/accuracy"}
    assert names <= set(plain.metrics)
    raw = plain.store._client.get_run(run.run_id)
    names = {logged.dataset.name for logged in raw.inputs.dataset_inputs}
    assert names == {"digits/train", "digits/test"}
    assert all(len(logged.dataset.digest) == 32 for logged in raw.inputs.dataset_inputs)


def test_both_splits_and_modes_become_records_of_their_own(everything):
    assert everything.run.records == ("test-probe", "train-inline", "train-probe")


def test_the_last_recorded_loss_is_that_of_the_saved_model(everything, test_split):
    folder = everything.folder / "model"
    build = json.loads((folder / "model.json").read_text())
    model = build_model(
        build["name"],
        in_channels=build["in_channels"],
        image_size=tuple(build["image_size"]),
        n_classes=build["n_classes"],
    )
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    images = Normalisation.of(load_dataset(params())[0]).apply(test_split.images)
    with torch.inference_mode():
        expected = cross_entropy(model.eval()(images), test_split.labels, reduction="none")
    recorded = everything.record("test-probe").history().losses[-1]
    np.testing.assert_allclose(recorded, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_the_saved_model_names_its_normalisation_and_classes(everything):
    build = json.loads((everything.folder / "model" / "model.json").read_text())
    normalisation = Normalisation.of(load_dataset(params())[0])
    assert build["mean"] == pytest.approx(normalisation.mean.tolist())
    assert build["std"] == pytest.approx(normalisation.std.tolist())
    assert build["class_names"] == list("0123456789")


# ---------------------------------------------------------------- repetition


def test_the_same_seed_gives_the_same_record_bit_by_bit(plain, train):
    assert losses_digest(train().record()) == losses_digest(plain.record())


def test_another_seed_gives_another_record_of_the_same_samples(plain, train):
    first, second = plain.record(), train(seed=1).record()
    assert losses_digest(first) != losses_digest(second)
    assert first.manifest.digests == second.manifest.digests


def test_recording_does_not_change_the_training(plain, everything):
    assert losses_digest(everything.record("test-probe")) == losses_digest(plain.record())


# ---------------------------------------------------------------- what is recorded


def test_inline_losses_are_those_of_the_batches_before_the_last_update(everything):
    inline = everything.record("train-inline").history().losses
    probe = everything.record("train-probe").history().losses
    assert inline[0].mean() > probe[1].mean()  # step 0 of the probe is the untrained model


def test_the_untrained_state_is_step_zero_of_the_evaluation_passes(everything):
    history = everything.record("test-probe").history()
    assert history.steps.tolist() == [0, 1, 2]
    assert history.losses[0].mean() == pytest.approx(np.log(10), abs=0.5)
    assert everything.record("train-inline").history().steps.tolist() == [1, 2]


def test_delta_counts_epochs(plain):
    assert plain.record().history().deltas.tolist() == [1, 1]


@pytest.fixture(scope="session")
def noisy(train_once):
    """A training on wrong labels that counts updates."""
    return train_once(params(record="train", label_noise=0.1, delta_n="batch"))


def test_delta_counts_updates(noisy):
    assert noisy.record().history().deltas.tolist() == [3, 3]


def test_label_noise_is_kept_with_the_truth(noisy):
    samples = noisy.record().samples
    assert int((samples.labels != samples.true_labels).sum()) == 12


def test_delta_in_wall_time_is_positive_seconds_of_training(train):
    deltas = train(delta_n="wall_time", epochs=1).record().history().deltas
    assert ((deltas > 0) & (deltas < 60)).all()


def test_inline_alone_records_the_training_batches_beside_the_test_split(train_once):
    run = train_once(params(mode="inline", epochs=1)).run
    assert run.records == ("test-probe", "train-inline")
    assert (run.params["record"], run.params["effective.record"]) == ("test", "test,train")


# ---------------------------------------------------------------- what else is logged


def test_features_are_those_of_the_last_layer_in_canonical_order(everything, test_split):
    model = build_model("cnn3", in_channels=1, image_size=8, n_classes=10).eval()
    weights = everything.folder / "model" / "weights.pt"
    model.load_state_dict(torch.load(weights, weights_only=True))
    images = Normalisation.of(load_dataset(params())[0]).apply(test_split.images)
    with torch.inference_mode():
        expected = model.features(images).numpy()
    features = everything.record("test-probe").features()
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3)


def test_probabilities_are_those_of_the_last_evaluation_pass(everything):
    record = everything.record("test-probe")
    history, probabilities = record.history(), record.probabilities()
    assert probabilities.shape == (50, 10)
    of_label = probabilities[np.arange(50), history.labels]
    np.testing.assert_allclose(-np.log(of_label), history.losses[-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), history.measures["predicted"][-1])


def test_thumbnails_show_the_recorded_images(plain, test_split):
    image = np.asarray(Image.open(io.BytesIO(plain.record().image_bytes(7))))
    np.testing.assert_array_equal(image, test_split.images[7, 0].numpy())


def test_thumbnails_may_be_left_out(noisy, train):
    assert noisy.record().manifest.files.keys() & {"thumbnails.parquet"}
    without = train(thumbnails="never", epochs=1).record()
    assert not [name for name in without.manifest.files if name.startswith("thumbnails")]


# ---------------------------------------------------------------- failure, and the command line


def test_a_training_that_fails_leaves_a_failed_run_with_its_finished_epochs(
    train, store, experiment, monkeypatch
):
    real = Recorder.end_epoch

    def fail_at_the_second(self, epoch=None, *args, **kwargs):
        if epoch == 2:
            raise RuntimeError("the power went")
        return real(self, epoch, *args, **kwargs)

    monkeypatch.setattr(Recorder, "end_epoch", fail_at_the_second)
    with pytest.raises(RuntimeError, match="the power went"):
        train()
    runs = store._client.search_runs(
        [store._client.get_experiment_by_name(experiment).experiment_id]
    )
    assert [run.info.status for run in runs] == ["FAILED"]
    record = store.open_record(runs[0].info.run_id)
    assert (record.manifest.n_steps, record.manifest.status) == (1, "recording")
    assert record.manifest.partial == {"step": 2, "n_seen": 50}


def test_main_prints_scores_hardest_samples_and_where_the_report_is(experiment, store):
    mlflow.set_experiment(experiment)
    values = SMALL | {"report": True, "epochs": 1}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = training.main([f"--{name}={value}" for name, value in values.items()])
    assert code == 0
    for words in ("Action per class", "Hardest samples", "artifacts", "report.html", "mlflow ui"):
        assert words in out.getvalue()
    (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    root = store.local_root(store.get_run(run.info.run_id))
    report = root / "actiontrack" / "test-probe" / "report"
    assert "Hardest samples" in (report / "report.html").read_text()
    assert {path.suffix for path in (report / "figures").iterdir()} == {".png", ".svg"}


def test_main_returns_the_code_of_a_store_that_is_away(monkeypatch, capsys):
    monkeypatch.setattr(training, "train", lambda *_, **__: (None, False))
    assert training.main([]) == StoreError.exit_code
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- metadata


def test_attributes_are_kept_with_the_record_of_each_split_that_they_name(
    train, test_split, tmp_path
):
    names = test_split.ids.astype(str)
    frame = pd.DataFrame({"id": names, "half": ["first", "second"] * (len(names) // 2)})
    frame.to_csv(tmp_path / "attributes.csv", index=False)
    trained = train(record="test,train", metadata=str(tmp_path / "attributes.csv"))
    read = read_metadata(trained.record("test-probe"))
    assert dict(zip(read["sample_id"], read["half"], strict=True)) == dict(
        zip(frame["id"], frame["half"], strict=True)
    )
    assert not has_metadata(trained.record("train-probe"))
    assert "metadata" not in trained.run.params


def test_attributes_of_no_recorded_sample_are_refused_before_training(train, tmp_path):
    pd.DataFrame({"id": ["elsewhere"], "half": ["first"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ParameterError, match="must name samples of test, whose ids look like"):
        train(metadata=str(tmp_path / "a.csv"))
