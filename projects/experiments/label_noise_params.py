"""Parameters of the experiment with wrong labels."""

import itertools
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from actiontrack.errors import ParameterError
from projects.cross_validation import has_cleanlab
from projects.params.experiments import ExperimentParams, auto
from projects.params.fields import NOISE_KINDS, ModelNames, Noises, label_file
from projects.params.training import TrainParams, fit_warmup

__all__ = ["LabelNoiseParams"]

_TAKEN = frozenset({*NOISE_KINDS, "model", "method", "mean"})  # the last are columns of a table


class LabelNoiseParams(ExperimentParams):
    """Train on wrong labels and measure how well every score finds them, beside cleanlab."""

    presets: ClassVar = {
        "smoke": {
            "subset": 700, "seeds": 1, "label_noise": 0.1, "folds": 2, "cleanlab_seeds": 1,
            "epochs": 5, "augment": "none", "schedule": "constant", "warmup_epochs": 0,
            "batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
        "cpu": {
            "seeds": 2, "label_noise": 0.1, "folds": 3, "cleanlab_seeds": 1,
            "epochs": 20, "augment": "flip_crop", "schedule": "constant", "warmup_epochs": 0,
            "batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
        "paper": {
            "seeds": 5, "label_noise": 0.1, "folds": 5, "cleanlab_seeds": 5,
            "epochs": 85, "augment": "flip_crop", "schedule": "cosine", "warmup_epochs": 1,
            "batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
    }  # fmt: skip

    models: ModelNames = Field(("cnn3", "resnet_v2"), description="architectures")
    seeds: int = auto(ge=1, description="runs of each model, each with wrong labels of its own")
    noise: Noises = Field(
        ("symmetric",),
        description="wrong labels, one table for all: any other class, the next class, or file:FILE"
        " as noisy_labels of train takes it",
    )
    label_noise: float = auto(
        ge=0, lt=1, description="fraction of wrong training labels that are not from a file"
    )
    cleanlab: Literal["auto", "true", "false"] = Field(
        "auto", description="whether to compare with cleanlab; auto = if it is installed"
    )
    folds: int = auto(ge=2, description="of the cross-validation for cleanlab")
    cleanlab_seeds: int = auto(
        ge=1, description="seeds with a cross-validation, each of folds - 1 trainings a model"
    )
    augment: Literal["none", "flip_crop", "flip_shift"] = auto(
        description="training images only: horizontal flip and random crop, or half of it"
    )
    schedule: Literal["constant", "cosine", "step", "triangular"] = auto(
        description="learning rate over the epochs"
    )
    warmup_epochs: int = auto(ge=0, description="epochs of linear warm-up, fewer than epochs")
    batch_size: int = auto(ge=1, description="images per update")
    optimizer: Literal["adam", "sgd", "adamw"] = auto(description="update rule")
    learning_rate: float = auto(gt=0, description="step size at its peak")
    weight_decay: float = auto(ge=0, description="L2 penalty (adamw: decoupled)")

    @model_validator(mode="after")
    def _fit_warmup(self) -> Self:
        epochs, warmup_epochs = self.epochs, self.warmup_epochs
        fit_warmup(self, epochs=epochs, warmup_epochs=warmup_epochs, schedule=self.schedule)
        return self

    @model_validator(mode="after")
    def _check_noise(self) -> Self:
        drawn = [noise for noise in self.noise if noise in NOISE_KINDS]
        if drawn and not self.label_noise:
            raise ParameterError(
                "label_noise",
                f"must be above 0 for {drawn[0]} noise",
                self.label_noise,
                "Pass for instance --label_noise 0.1.",
            )
        return self

    @property
    def with_cleanlab(self) -> bool:
        """Whether cleanlab's scores are computed."""
        return self.cleanlab == "true" or (self.cleanlab == "auto" and has_cleanlab())

    @property
    def noise_titles(self) -> dict[str, str]:
        """A short name for each noise: its kind, or the file's name with the label set.

        Where a short name would be that of another noise, or mean something else, all are as the
        user wrote them.
        """
        titles = {noise: _title(noise) for noise in self.noise}
        of_files = {title for noise, title in titles.items() if noise not in NOISE_KINDS}
        is_clear = len(set(titles.values())) == len(titles) and of_files.isdisjoint(_TAKEN)
        return titles if is_clear else {noise: noise for noise in self.noise}

    def trainings(self, noise: str) -> list[TrainParams]:
        """A training of every model with every seed, which chooses the wrong labels too.

        Args:
            noise: one of the parameter of this name.
        """
        labels: dict[str, object] = {"noisy_labels": noise.removeprefix("file:"), "label_noise": 0}
        if noise in NOISE_KINDS:
            labels = {"noise_kind": noise}
        return [
            self.training(model=model, seed=seed, record=("train", "test"), **labels)
            for model, seed in itertools.product(self.models, range(self.seeds))
        ]


def _title(noise: str) -> str:
    """A short name for a noise: its kind, or the file's name with the label set."""
    if noise in NOISE_KINDS:
        return noise
    path, label_set = label_file(noise.removeprefix("file:"))
    return f"{path.stem} {label_set}".rstrip()
