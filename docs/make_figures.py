"""Draw every figure of the documentation from small trainings on scikit-learn's digits.

Run in the repository: python docs/make_figures.py [FOLDER]. It takes some minutes on two cores. The
runs stay in FOLDER (default: build/figures), and a run that is there is not trained again; the
figures go to docs/figures. The tests check that there is one for every function of
`actiontrack.plots`.
"""
# ruff: noqa: INP001, T201

import contextlib
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances
from sklearn.neural_network import MLPClassifier

from actiontrack import (
    RunQuery,
    accuracy_by_threshold,
    compare_runs,
    correlation_by_quantile,
    curve_clusters,
    hardest,
    load_records,
    loss_curves,
    noise_detection,
    noise_scores,
    noise_summary,
    plots,
    reporting,
    stability,
)
from actiontrack.analysis import (
    difficulty_ranks,
    ensemble_regions,
    ensemble_scores,
    feature_map,
    noise_pairs,
    pixel_classes,
    score_frame,
)
from actiontrack.analysis.changes import compare_sets
from actiontrack.errors import NotFoundError
from actiontrack.store import Store, StoredRecord
from projects import train as training
from projects.params import TrainParams, validate
from projects.params.segmentation import SegmentationParams
from projects.tasks.segmentation import Segmentation

FIGURES = Path(__file__).parent / "figures"
WIDTH = 1100  # pixels: a figure is shown at half of it
DIGITS = ["background", *(f"digit {each}" for each in range(10))]


class Runs:
    """The trainings that the figures are drawn from, each made when it is first needed.

    Args:
        folder: where the runs are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.store = Store(f"sqlite:///{self.folder / 'mlflow.db'}")

    @cached_property
    def models(self) -> list[StoredRecord]:
        """Two models, three seeds each."""
        options: Mapping[str, object] = {"save_features": True, "save_probabilities": True}
        return self._classifiers("models", options, seeds=3)

    @cached_property
    def one_model(self) -> list[StoredRecord]:
        """The three runs of the first model, an ensemble."""
        return [each for each in self.models if each.manifest.model == "cnn3"]

    @cached_property
    def noisy(self) -> list[StoredRecord]:
        """The same two models, trained with a tenth of the labels wrong."""
        options: Mapping[str, object] = {"label_noise": 0.1, "record": ("train",), "epochs": 20}
        return self._classifiers("noise", options, seeds=2)

    @cached_property
    def pixels(self) -> StoredRecord:
        """A U-Net that tells the strokes of a digit from the background, and which digit it is."""
        self._draw_masks()
        data = self.folder / "masks"
        values = {
            "dataset": f"masks:{data / 'images'},{data / 'masks'}",
            "classes": ",".join(DIGITS),
            "height": 48, "width": 48, "width_divisor": 16, "epochs": 12, "batch_size": 32,
            "augment": "none", "device": "cpu", "report": False, "thumbnails": "always",
        }  # fmt: skip
        params = validate(SegmentationParams, values)
        return self._trained(
            "pixels",
            1,
            lambda: [training.train(params, self.store, task=Segmentation())],
        )[0]

    @cached_property
    def curriculum(self) -> pd.DataFrame:
        """Trainings on growing parts of the digits, by three orders of the training images."""
        inputs, labels = load_digits(return_X_y=True)
        inputs = inputs / 16
        action = self._training_action(inputs, labels)
        orders = {"easiest first": [np.argsort(action)], "hardest first": [np.argsort(-action)]}
        orders["random"] = [np.random.default_rng(seed).permutation(1200) for seed in range(3)]
        rows = []
        for strategy, repeats in orders.items():
            for order in repeats:
                for part in range(1, 7):
                    chosen = order[: 200 * part]
                    model = MLPClassifier(32, max_iter=1000, random_state=0)
                    model.fit(inputs[chosen], labels[chosen])
                    row = {"strategy": strategy, "n_images": len(chosen)}
                    row |= {"accuracy": model.score(inputs[1200:], labels[1200:])}
                    row |= {"mean_action": action[chosen].mean()}
                    rows.append(row | {"added": "" if strategy == "random" else f"part {part}"})
        frame = pd.DataFrame(rows)
        frame.attrs["delta_kind"] = "epoch"  # for the unit of the action
        return frame

    def _training_action(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Loss of each training image, summed over 20 epochs."""
        model = MLPClassifier(32, random_state=0)
        action = np.zeros(1200)
        for _ in range(20):
            model.partial_fit(inputs[:1200], labels[:1200], classes=np.arange(10))
            action -= np.log(model.predict_proba(inputs[:1200])[range(1200), labels[:1200]])
        return action

    def _classifiers(
        self, name: str, options: Mapping[str, object], *, seeds: int
    ) -> list[StoredRecord]:
        def train() -> None:
            for model in ("cnn3", "cnn_keras"):
                for seed in range(seeds):
                    values = {"model": model, "seed": seed, "epochs": 12, "report": False}
                    values |= {"thumbnails": "always"}
                    training.train(validate(TrainParams, values | dict(options)), self.store)

        return self._trained(name, 2 * seeds, train)

    def _trained(self, name: str, n_runs: int, train: Callable[[], object]) -> list[StoredRecord]:
        """The records of an experiment, trained if they are not there."""
        query = RunQuery(experiments=(name,), filter_string="attributes.status = 'FINISHED'")
        with contextlib.suppress(NotFoundError):
            found = load_records(query, store=self.store)
            if len(found) == n_runs:
                return _by_model(found)
        print(f"training {name}", flush=True)
        mlflow.set_tracking_uri(self.store.tracking_uri)
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, (self.folder / "artifacts").as_uri())
        mlflow.set_experiment(name)
        train()
        return _by_model(load_records(query, store=self.store))

    def _draw_masks(self) -> None:
        """Write digits of 48 x 48 pixels, and the class of each of their pixels."""
        images, labels = load_digits(return_X_y=True)
        for row, (image, label) in enumerate(zip(images[:720], labels[:720], strict=True)):
            split = "train" if row < 600 else "val"
            grey = Image.fromarray((image.reshape(8, 8) * 255 / 16).astype(np.uint8))
            picture = grey.resize((48, 48), Image.Resampling.BICUBIC)
            mask = np.where(np.asarray(picture) > 110, label + 1, 0).astype(np.uint8)
            for kind, drawn in (("images", picture), ("masks", Image.fromarray(mask))):
                path = self.folder / "masks" / kind / split / f"{row:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                drawn.save(path)


def _by_model(records: list[StoredRecord]) -> list[StoredRecord]:
    return sorted(records, key=lambda each: (each.manifest.model, each.run.start_time))


# ---------------------------------------------------------------- one function per figure


def _scores_of_two(runs: Runs) -> pd.DataFrame:
    """Action of the first run of each model, a column each, with the class."""
    first = [runs.models[0], runs.models[3]]
    frame = score_frame(first)
    wide = frame.pivot_table(index=["sample_id", "class"], columns="model", values="action")
    wide = wide.dropna().reset_index("class").rename_axis(columns=None).sort_values("class")
    wide.attrs = frame.attrs  # for the unit, which a pivot table loses
    return wide


def _digit_ranks(runs: Runs) -> Figure:
    """Ranks by action against how much nearer the nearest image of another digit is."""
    digits, labels = load_digits(return_X_y=True)
    distances = pairwise_distances(digits)
    np.fill_diagonal(distances, np.inf)
    same = labels == labels[:, None]
    own, other = (np.where(which, distances, np.inf).min(axis=1) for which in (same, ~same))
    outside = pd.DataFrame({"sample_id": range(len(digits)), "distance_ratio": own / other})
    return plots.difficulty_ranks(difficulty_ranks(runs.one_model, outside)).figure


def _joint(runs: Runs) -> Figure:
    scores = ensemble_scores(runs.one_model)
    return plots.joint_distribution(scores, ensemble_regions(scores, share=0.03)).figure


def _of_pixels(runs: Runs) -> Figure:
    rows = hardest(score_frame([runs.pixels]), 3)
    return reporting.pixel_figure(runs.pixels, rows)[0]


def _of_hardest(runs: Runs) -> Figure:
    record = runs.models[0]
    return reporting.gallery(record, hardest(score_frame([record]), 12))[0]


DRAWN: Mapping[str, Callable[[Runs], Figure]] = {
    "accuracy_curves": lambda runs: (
        plots.accuracy_curves(accuracy_by_threshold(runs.one_model)).figure
    ),
    "class_changes": lambda runs: (
        plots.class_changes(compare_sets(runs.models[:3], runs.models[3:]).classes).figure
    ),
    "class_distributions": lambda runs: (
        plots.class_distributions(score_frame(runs.models[:1])).figure
    ),
    "correlation_heatmap": lambda runs: (
        plots.correlation_heatmap(compare_runs(runs.models, n_bootstrap=0).table()).figure
    ),
    "curve_clusters": lambda runs: plots.curve_clusters(curve_clusters(runs.models[0])).figure,
    "detection_scores": lambda runs: (
        plots.detection_scores(noise_summary(noise_detection(runs.noisy))).figure
    ),
    "difficulty_ranks": _digit_ranks,
    "feature_scatter": lambda runs: plots.feature_scatter(feature_map(runs.models[0])).figure,
    "gallery": _of_hardest,
    "joint_distribution": _joint,
    "learning_curves": lambda runs: plots.learning_curves(runs.curriculum).figure,
    "loss_curves": lambda runs: plots.loss_curves(loss_curves(runs.models[:1], n=6)).figure,
    "mean_score_curves": lambda runs: plots.mean_score_curves(runs.curriculum).figure,
    "model_scatter": lambda runs: plots.model_scatter(_scores_of_two(runs)).figure,
    "noise_distributions": lambda runs: (
        plots.noise_distributions(noise_scores(runs.noisy[:2])).figure
    ),
    "noise_pairs": lambda runs: plots.noise_pairs(noise_pairs(runs.noisy[:2])).figure,
    "noise_panels": lambda runs: plots.noise_panels(noise_scores(runs.noisy)),
    "pixel_classes": lambda runs: plots.pixel_classes(pixel_classes(runs.pixels)).figure,
    "pixel_maps": _of_pixels,
    "quantile_curves": lambda runs: (
        plots.quantile_curves(correlation_by_quantile(runs.models)).figure
    ),
    "score_histogram": lambda runs: (
        plots.score_histogram(score_frame(runs.models), hue="model").figure
    ),
    "stability_curves": lambda runs: plots.stability_curves(stability(runs.models)).figure,
}


def main(folder: Path) -> None:
    """Draw all figures from the runs in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(folder)
    for name, draw in DRAWN.items():
        (path,) = plots.save_figure(draw(runs), FIGURES / name, formats=("png",))
        _shrink(path)
        print(f"{path.name}: {path.stat().st_size // 1024} kB", flush=True)


def _shrink(path: Path) -> None:
    """Keep a figure in at most 256 colours and at the width that pages show it in."""
    with Image.open(path) as image:
        drawn = image.convert("RGB")
    if drawn.width > WIDTH:
        size = (WIDTH, round(drawn.height * WIDTH / drawn.width))
        drawn = drawn.resize(size, Image.Resampling.LANCZOS)
    drawn.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/figures"))
