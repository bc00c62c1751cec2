"""Parameters of a training: the loop and what is recorded, and those of the classifier."""

from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, model_validator

from actiontrack.errors import ParameterError
from projects.params.fields import MAX_SEED, Bool, Dataset, ModelName, Names, Splits, label_file
from projects.params.reading import Params
from projects.params.recipes import recipe_of

__all__ = ["AdamWParams", "LoopParams", "TrainParams", "fit_warmup"]


def fit_warmup(params: Params, *, epochs: int, warmup_epochs: int, schedule: str) -> None:
    """Shorten a default warm-up that is not shorter than the training, or that has no place in it.

    Args:
        params: with the field ``warmup_epochs``.
        epochs: of the training.
        warmup_epochs: of linear warm-up.
        schedule: of the learning rate after it; a triangular one rises by itself.

    Raises:
        ParameterError: The user chose a warm-up that does not fit.
    """
    if schedule == "triangular" and warmup_epochs:
        if params.is_given("warmup_epochs"):
            rule = "must be 0 with schedule triangular, which rises by itself"
            raise ParameterError("warmup_epochs", rule, warmup_epochs, "Leave it out.")
        params.adapt("warmup_epochs", 0)
        return
    if warmup_epochs < epochs:
        return
    if params.is_given("warmup_epochs"):
        raise ParameterError(
            "warmup_epochs",
            f"must be an integer < epochs, which is {epochs}",
            warmup_epochs,
            f"Pass --warmup_epochs {epochs - 1} or less, or more epochs.",
        )
    params.adapt("warmup_epochs", epochs - 1)


class LoopParams(Params):
    """Base of all trainings: the loop, what is recorded, where it is computed."""

    dataset: str = Field(description="images to train on")
    model: str = Field(description="architecture")
    epochs: int = Field(12, ge=1, description="passes over the training split")
    batch_size: int = Field(128, ge=1, description="images per update")
    optimizer: Literal["adam", "sgd", "adamw"] = Field("adam", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, description="step size at its peak")
    momentum: float = Field(0.9, ge=0, le=1, description="of sgd; the others ignore it")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (adamw: decoupled)")
    schedule: Literal["constant", "cosine", "step", "triangular"] = Field(
        "constant", description="learning rate over the epochs; triangular: over the updates"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs of linear warm-up, fewer than epochs")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="of initial weights, order and augmentation"
    )
    record: Splits = Field(("test",), description="splits whose losses are recorded")
    mode: Literal["probe", "inline", "both"] = Field(
        "probe", description="evaluation pass, or the training batches' own losses (train only)"
    )
    delta_n: Literal["epoch", "batch", "wall_time"] = Field(
        "epoch", description="unit of the steps that the action sums over"
    )
    record_initial: Bool = Field(
        default=False, description="also record the untrained model, n = 0"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="of the forward pass; auto = bf16 on CUDA, else float32"
    )
    subset: int = Field(0, ge=0, description="training images to use, by class; 0 = all")
    test_subset: int = Field(0, ge=0, description="test images to use, by class; 0 = all")
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="of the images, for folders without test/"
    )
    split_seed: int = Field(
        0, ge=0, le=MAX_SEED, description="which images: folder split and subsets"
    )
    thumbnails: Literal["auto", "never", "always"] = Field(
        "auto", description="store small copies of the images with the record"
    )
    save_model: Bool = Field(default=False, description="log the trained weights")
    report: Bool = Field(default=True, description="make a report of each record at the end")
    threads: int = Field(0, ge=0, description="of PyTorch on the CPU; 0 = its default")
    deterministic: Bool = Field(default=True, description="only algorithms that repeat bit by bit")
    checkpoint: str = Field(
        "", description="file to continue from and to save to after each epoch; empty = none"
    )
    run_id: str = Field("", description="MLflow run to write to; empty = start or adopt one")
    metadata: str = Field(
        "", description="file of attributes to slice by, CSV or Parquet with the id; empty = none"
    )
    metadata_columns: Names = Field(
        (), description="of metadata; empty = all, but records with hashed ids need names"
    )

    @model_validator(mode="after")
    def _fit_warmup(self) -> Self:
        self._check_warmup()
        return self

    @model_validator(mode="after")
    def _fit_record(self) -> Self:
        if self.mode == "probe" or "train" in self.record:
            return self
        if self.is_given("record"):
            raise ParameterError(
                "mode",
                "must be probe when train is not in record: only training batches have"
                " inline losses",
                self.mode,
                "Pass --record test,train or --mode probe.",
            )
        self.adapt("record", (*self.record, "train"))
        return self

    @model_validator(mode="after")
    def _check_initial(self) -> Self:
        if self.record_initial and self.mode == "inline" and self.record == ("train",):
            raise ParameterError(
                "record_initial",
                "must be false when nothing is probed: the untrained model has no training batch",
                self.record_initial,
                "Pass --mode both or --record_initial false.",
            )
        return self

    @model_validator(mode="after")
    def _check_initial_delta(self) -> Self:
        if self.record_initial and self.delta_n != "epoch":
            raise ParameterError(
                "record_initial",
                f"must be false with delta_n {self.delta_n}, which has no Δn for n = 0",
                self.record_initial,
                "Pass --delta_n epoch or --record_initial false.",
            )
        return self

    def _check_warmup(self) -> None:
        epochs, warmup_epochs = self.epochs, self.warmup_epochs
        fit_warmup(self, epochs=epochs, warmup_epochs=warmup_epochs, schedule=self.schedule)

    @property
    def selection(self) -> dict[str, Any]:
        """The parameters that say which images of a dataset are used."""
        names = ("subset", "test_subset", "test_fraction", "split_seed")
        return {name: getattr(self, name) for name in names}


class AdamWParams(LoopParams):
    """Base of the trainings by AdamW, with a linear warm-up and a cosine afterwards."""

    optimizer: Literal["adam", "sgd", "adamw"] = Field("adamw", description="update rule")
    weight_decay: float = Field(0.01, ge=0, description="L2 penalty (adamw: decoupled)")
    schedule: Literal["constant", "cosine", "step", "triangular"] = Field(
        "cosine", description="learning rate over the epochs"
    )
    warmup_epochs: int = Field(1, ge=0, description="epochs of linear warm-up, fewer than epochs")


class TrainParams(LoopParams):
    """Train a classifier and record every sample's loss."""

    dataset: Dataset = Field("digits", description="images to train on")
    model: ModelName = Field("cnn_keras", description="architecture, see projects/models/README.md")
    width: int = Field(
        32, ge=1, description="channels of the first stage of speednet; the others have none"
    )
    recipe: Literal["auto", "none"] = Field(
        "auto", description="settings made for the model where yours are left out; none = as given"
    )
    data_dir: str = Field(
        "auto",
        min_length=1,
        description="where downloads live; auto = the user's cache",
        json_schema_extra={"rule": "must be a folder or auto"},
    )
    ferplus_labels: Literal["majority", "probability"] = Field(
        "majority", description="of ferplus: the class most voted for, or shares of the votes"
    )
    augment: Literal["none", "flip_crop", "flip_shift"] = Field(
        "none", description="training images only: horizontal flip and random crop, or half of it"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of all classes in the labels; of training only"
    )
    bias_factor: float = Field(1.0, gt=0, description="times the learning rate, for biases")
    lookahead: int = Field(
        0, ge=0, description="updates after which weights become their running mean; 0 = never"
    )
    label_noise: float = Field(0.0, ge=0, lt=1, description="fraction of wrong training labels")
    noise_kind: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="any other class, or the next class"
    )
    noise_seed: int = Field(
        -1, ge=-1, le=MAX_SEED, description="which labels are wrong; -1 = as seed"
    )
    noisy_labels: str = Field(
        "",
        description="file of training labels, CSV of id,label, .npy or .pt: FILE or FILE#SET;"
        " empty = none",
    )
    image_size: int = Field(0, ge=0, description="resize and centre-crop to it; 0 = as stored")
    save_features: Bool = Field(
        default=False, description="log the last feature layer of each sample"
    )
    save_probabilities: Bool = Field(
        default=False, description="log the trained model's class probabilities of each sample"
    )

    @model_validator(mode="after")
    def _follow_recipe(self) -> Self:
        """Take the settings of the model's recipe that the user has not chosen."""
        for name, value in recipe_of(self.model).items() if self.recipe == "auto" else ():
            if not self.is_given(name) and getattr(self, name) != value:
                self.adapt(name, value)
        self._check_warmup()
        return self

    @model_validator(mode="after")
    def _check_noisy_labels(self) -> Self:
        if self.noisy_labels and self.label_noise:
            raise ParameterError(
                "noisy_labels",
                f"must be empty with label_noise {self.label_noise}",
                self.noisy_labels,
                "Pass one of the two.",
            )
        return self

    @model_validator(mode="after")
    def _fit_ferplus_labels(self) -> Self:
        if self.ferplus_labels == "majority":
            return self
        if self.noisy_labels or self.label_noise:
            rule = "must be majority with wrong labels: shares of votes can't be replaced by them"
        elif self.dataset != "ferplus" and self.is_given("dataset"):
            rule = f"must be majority with dataset {self.dataset}, which has no votes"
        else:
            self._use_ferplus()
            return self
        raise ParameterError(
            "ferplus_labels", rule, self.ferplus_labels, "Pass --ferplus_labels majority."
        )

    def _use_ferplus(self) -> None:
        if self.dataset != "ferplus":
            self.adapt("dataset", "ferplus")

    @property
    def noisy_labels_path(self) -> Path:
        """File of wrong labels. It has no meaning where `noisy_labels` is empty."""
        return label_file(self.noisy_labels)[0]

    @property
    def noisy_labels_set(self) -> str:
        """Which label set of the file; empty where it holds only one."""
        return label_file(self.noisy_labels)[1]

    @property
    def data_path(self) -> Path:
        """Folder of downloads: `data_dir`, or a folder in the user's cache for ``auto``."""
        if self.data_dir == "auto":
            return platformdirs.user_cache_path("actiontrack") / "datasets"
        return Path(self.data_dir).expanduser()

    @property
    def effective_noise_seed(self) -> int:
        """Seed of the label noise: `noise_seed`, or `seed` where that is -1."""
        return self.seed if self.noise_seed == -1 else self.noise_seed
