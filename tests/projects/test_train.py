"""Real training on digits: what the run holds afterwards, and that it repeats."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from actiontrack.recorder import Recorder
from projects import train as training
from projects.datasets import load_dataset
from projects.loading import Normalisation
from projects.models import build_model
from projects.params import TrainParams, to_strings, validate

SMALL = {"model": "cnn3", "epochs": 2, "subset": 300, "test_subset": 100, "device": "cpu"}


@pytest.fixture
def train(store, experiment):
    """A function that trains in a run of its own and returns the run as it is afterwards."""
    import mlflow

    mlflow.set_experiment(experiment)

    def go(**values):
        run, synced = training.train(validate(TrainParams, SMALL | values), store)
        assert synced
        return store.get_run(run.run_id)

    return go


def blocks_digest(record):
    digest = hashlib.sha256()
    for step in record.manifest.steps:
        digest.update(record.manifest.files[f"blocks/{step.step:06d}.parquet"].sha256.encode())
    return digest.hexdigest()


def test_the_test_split_is_recorded_at_every_epoch(train, store):
    run = train()
    assert run.records == ("test-probe",)
    history = store.open_record(run).history()
    assert history.losses.shape == (2, 100)
    assert history.loss_name == "cross_entropy"


def test_the_run_is_finished_and_has_parameters_tags_metrics_and_datasets(train, store):
    run = train()
    assert run.status == "FINISHED"
    expected = to_strings(validate(TrainParams, SMALL))
    passing = {name: expected.pop(name) for name in ("checkpoint", "data_dir", "report", "run_id")}
    assert {name: run.params[name] for name in expected} == expected
    assert not passing.keys() & run.params.keys()
    assert run.params["model_parameters"].isdigit()
    assert run.model == "cnn3"
    raw = store._client.get_run(run.run_id)
    assert {"train/loss", "learning_rate", "test-probe/mean_loss", "test-probe/accuracy"} <= set(
        raw.data.metrics
    )
    names = {each.dataset.name for each in raw.inputs.dataset_inputs}
    assert names == {"digits/train", "digits/test"}
    assert all(len(each.dataset.digest) == 32 for each in raw.inputs.dataset_inputs)


def test_the_last_recorded_loss_is_that_of_the_saved_model(train, store):
    run = train(save_model=True)
    folder = store.local_root(run) / "model"
    build = json.loads((folder / "model.json").read_text())
    model = build_model(
        build["name"],
        in_channels=build["in_channels"],
        image_size=tuple(build["image_size"]),
        n_classes=build["n_classes"],
    )
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    splits = load_dataset(validate(TrainParams, SMALL))
    images = Normalisation.of(splits[0]).apply(splits[1].images)
    with torch.inference_mode():
        expected = cross_entropy(model.eval()(images), splits[1].labels, reduction="none")
    order = np.argsort(splits[1].ids)
    recorded = store.open_record(run).history().losses[-1]
    np.testing.assert_allclose(recorded, expected.numpy()[order], rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_record_bit_by_bit(train, store):
    first, second = (store.open_record(train(augment="flip_crop")) for _ in range(2))
    assert blocks_digest(first) == blocks_digest(second)


def test_another_seed_gives_another_record_of_the_same_samples(train, store):
    first, second = store.open_record(train()), store.open_record(train(seed=1))
    assert blocks_digest(first) != blocks_digest(second)
    assert first.manifest.digests == second.manifest.digests


def test_recording_does_not_change_the_training(train, store, monkeypatch):
    with_record = store.open_record(train(record="test,train", mode="both"))
    only_test = store.open_record(train())
    assert blocks_digest(with_record) == blocks_digest(only_test)


def test_both_splits_and_modes_become_records_of_their_own(train):
    run = train(record="test,train", mode="both")
    assert run.records == ("test-probe", "train-inline", "train-probe")


def test_inline_losses_are_those_of_the_batches_before_the_last_update(train, store):
    run = train(record="train", mode="both", epochs=1)
    inline = store.open_record(run, "train-inline").history().losses
    probe = store.open_record(run, "train-probe").history().losses
    assert inline.mean() > probe.mean()


def test_label_noise_is_kept_with_the_truth(train, store):
    run = train(record="train", label_noise=0.1)
    samples = store.open_record(run).samples
    assert int((samples.labels != samples.true_labels).sum()) == 30


def test_the_untrained_state_is_step_zero(train, store):
    history = store.open_record(train(record_initial=True)).history()
    assert history.steps.tolist() == [0, 1, 2]
    assert history.losses[0].mean() == pytest.approx(np.log(10), abs=0.5)


@pytest.mark.parametrize(("kind", "expected"), [("epoch", [1, 1]), ("batch", [3, 3])])
def test_delta_counts_epochs_or_updates(train, store, kind, expected):
    assert store.open_record(train(delta_n=kind)).history().deltas.tolist() == expected


def test_delta_in_wall_time_is_positive_seconds_of_training(train, store):
    deltas = store.open_record(train(delta_n="wall_time")).history().deltas
    assert ((deltas > 0) & (deltas < 60)).all()


def test_features_are_those_of_the_last_layer_in_canonical_order(train, store):
    record = store.open_record(train(save_features=True, model="resnet_v2", epochs=1))
    features = record.features()
    assert features.shape == (100, 256)
    assert np.isfinite(features).all()


def test_probabilities_are_those_of_the_last_evaluation_pass(train, store):
    record = store.open_record(train(save_probabilities=True))
    history, probabilities = record.history(), record.probabilities()
    assert probabilities.shape == (100, 10)
    of_label = probabilities[np.arange(100), history.labels]
    np.testing.assert_allclose(-np.log(of_label), history.losses[-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), history.measures["predicted"][-1])


def test_thumbnails_show_the_recorded_images(train, store):
    import io

    from PIL import Image

    record = store.open_record(train())
    test = load_dataset(validate(TrainParams, SMALL))[1]
    order = np.argsort(test.ids)
    image = np.asarray(Image.open(io.BytesIO(record.image_bytes(7))))
    np.testing.assert_array_equal(image, test.images[order[7], 0].numpy())


def test_the_report_and_its_figures_lie_beside_the_record(train, store):
    root = store.local_root(train()) / "actiontrack" / "test-probe" / "report"
    assert "Hardest samples" in (root / "report.html").read_text()
    figures = {each.suffix for each in (root / "figures").iterdir()}
    assert figures == {".png", ".svg"}


def test_a_failing_run_is_marked_failed_and_keeps_its_epochs(train, store, monkeypatch, experiment):
    real, calls = Recorder.end_epoch, []

    def fail_at_the_second(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the power went")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Recorder, "end_epoch", fail_at_the_second)
    with pytest.raises(RuntimeError, match="the power went"):
        train()
    runs = store._client.search_runs(
        [store._client.get_experiment_by_name(experiment).experiment_id]
    )
    assert [each.info.status for each in runs] == ["FAILED"]
    record = store.open_record(runs[0].info.run_id)
    assert (record.manifest.n_steps, record.manifest.status) == (1, "recording")
    assert record.manifest.partial == {"step": 2, "n_seen": 100}


def test_main_prints_scores_hardest_samples_and_where_things_are(train, capsys):
    code = training.main([f"--{name}={value}" for name, value in SMALL.items()])
    out = capsys.readouterr().out
    assert code == 0
    for words in ("Action per class", "Hardest samples", "artifacts", "report.html", "mlflow ui"):
        assert words in out
