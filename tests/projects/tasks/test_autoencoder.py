"""The autoencoder on digits: errors of images and pixels, latent codes, reconstructions."""

import io

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import mean_squared_error

from actiontrack import analysis, plots, reporting
from projects import train_autoencoder
from projects.loading import Normalisation
from projects.models.autoencoder import Autoencoder
from projects.params import validate
from projects.params.autoencoder import AutoencoderParams
from projects.tasks.autoencoder import Autoencoding

VALUES = {
    "epochs": 2, "subset": 200, "test_subset": 40, "latent_dim": 3, "filters": 8, "threads": 1,
    "device": "cpu", "report": False, "save_model": True,
}  # fmt: skip


@pytest.fixture
def record(train_once):
    """The record of a training on digits."""
    return train_once(validate(AutoencoderParams, VALUES), Autoencoding).record()


@pytest.fixture
def outputs(record):
    """The stored model's reconstructions and latent codes, and the images, all in id order."""
    train, test = Autoencoding().load(validate(AutoencoderParams, VALUES))
    model = Autoencoder(1, (8, 8), latent_dim=3, width=8).eval()
    root = record.store.local_root(record.run)
    model.load_state_dict(torch.load(root / "model" / "weights.pt", weights_only=True))
    order = np.argsort(test.ids)
    with torch.inference_mode():
        inputs = Normalisation.of(train).apply(test.images[order])
        return model(inputs).numpy(), model.features(inputs).numpy(), test.images[order].numpy()


def test_the_loss_is_the_mean_squared_error_of_pixel_values(record, outputs):
    reconstructed, _, images = outputs
    expected = [
        mean_squared_error(image.ravel() / 255, reconstruction.ravel())
        for image, reconstruction in zip(images, reconstructed, strict=True)
    ]
    np.testing.assert_allclose(record.scores()["final_loss"], expected, rtol=1e-4)
    assert record.manifest.loss_name == "mean_squared_error"


def test_the_mean_of_a_map_is_the_action_of_its_image(record):
    assert record.manifest.pixel_loss_name == "squared_error"
    means = [record.pixel_action(row).mean() for row in range(40)]
    np.testing.assert_allclose(record.scores()["action"], means, rtol=1e-4)


def test_the_loss_falls(record):
    assert np.diff(record.history().losses.mean(axis=1)).max() < 0


def test_labels_are_recorded_and_compare_the_classes(record):
    assert set(analysis.class_distributions(record_scores(record))["class"]) == set("0123456789")


def record_scores(record):
    return analysis.score_frame([record])


def test_latent_codes_are_the_features(record, outputs):
    np.testing.assert_allclose(record.features(), outputs[1], atol=1e-4)


def test_reconstructions_are_kept_as_pictures(record, outputs):
    assert record.picture_names == ("reconstruction",)
    picture = np.asarray(Image.open(io.BytesIO(record.picture_bytes("reconstruction", 5))))
    np.testing.assert_allclose(picture, 255 * outputs[0][5, 0], atol=1)


def test_the_latent_space_is_drawn_by_its_principal_components(record):
    from sklearn.decomposition import PCA

    frame = analysis.feature_map(record)
    expected = PCA(2, svd_solver="full").fit(record.features())
    components = frame[["x", "y"]].to_numpy()
    np.testing.assert_allclose(
        np.abs(components), np.abs(expected.transform(record.features())), atol=1e-4
    )
    shares = [
        f"component {n} ({s:.0%})" for n, s in enumerate(expected.explained_variance_ratio_, 1)
    ]
    assert frame.attrs["axes"] == shares
    axes = plots.feature_scatter(frame)
    assert [axes.get_xlabel(), axes.get_ylabel()] == shares


def test_the_report_shows_maps_and_feature_space(record):
    headings = [section.heading for section in reporting.run_report(record).sections]
    assert "Pixel actions of the easiest samples" in headings
    assert "Samples in feature space" in headings
    assert "Difficulty of pixels per class" not in headings  # there is no class of a pixel


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 20)])
def test_a_reconstruction_is_as_large_as_the_image(size):
    model = Autoencoder(3, size, latent_dim=2, width=4).eval()
    reconstructed = model(torch.zeros(2, 3, *size))
    assert reconstructed.shape == (2, 3, *size)
    assert model.features(torch.zeros(2, 3, *size)).shape == (2, 2)
    assert 0 <= reconstructed.min() <= reconstructed.max() <= 1


def test_main_prints_scores_and_the_reconstruction_error(experiment, capsys):
    mlflow.set_experiment(experiment)
    assert train_autoencoder.main([f"--{name}={value}" for name, value in VALUES.items()]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "mean_squared_error" in line)
    (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    assert line.split()[0] == "test-probe/mean_squared_error"
    logged = run.data.metrics["test-probe/mean_loss"]
    assert float(line.split()[1]) == pytest.approx(logged, abs=6e-5)
