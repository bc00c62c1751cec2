"""Parameters of the entry points: one model of names, types and rules, one way to read them.

MLflow passes every parameter of an MLproject as text and checks only the types ``path`` and
``uri``. So each entry point describes its parameters as a frozen pydantic model and reads its
command line with `parse`; every failure is one `actiontrack.errors.ParameterError`. Words:

* *rule*: what a value must be, in words, e.g. ``must be an integer >= 1``;
* *remedy*: what the user can type instead.
"""

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from actiontrack.errors import ActionTrackError, ParameterError
from actiontrack.store import RunQuery, Terminated

__all__ = [
    "DATASETS",
    "CompareParams",
    "DemoParams",
    "LoopParams",
    "Params",
    "TrainParams",
    "defaults",
    "parse",
    "rule_of",
    "run_main",
    "to_strings",
    "to_tuple",
    "usage",
    "validate",
]

DATASETS = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "ferplus")
MAX_SEED = 2**32 - 1  # what PyTorch, NumPy and scikit-learn all take
TERMINATED = 143  # 128 + SIGTERM
INTERRUPTED = 130  # 128 + SIGINT, the shell's own convention

Model = TypeVar("Model", bound=BaseModel)
Split = Literal["test", "train"]
ModelName = Literal["cnn_keras", "resnet_v2", "xception_mini", "vgg5", "cnn3"]


def _to_bool(value: object) -> object:
    """Accept the words true and false (any case) and nothing else that is text."""
    if not isinstance(value, str):
        return value
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def _to_dataset(value: object) -> object:
    """Accept a built-in name or ``folder:PATH`` with a path that is not empty."""
    text = str(value)
    if text not in DATASETS and not (text.startswith("folder:") and text != "folder:"):
        raise ValueError(value)
    return text


def to_tuple(value: object) -> object:
    """Split a comma list; other values stay as they are."""
    return tuple(value.split(",")) if isinstance(value, str) else value


def _to_splits(value: object) -> object:
    """Split a comma list and refuse repeated names."""
    names = tuple(value.split(",")) if isinstance(value, str) else value
    if isinstance(names, tuple) and len(set(names)) != len(names):
        raise ValueError(value)
    return names


def _rule(text: str) -> Any:  # pydantic types it so
    """Mark a field with a rule that its type alone does not tell."""
    return Field(json_schema_extra={"rule": text})


Bool = Annotated[bool, BeforeValidator(_to_bool)]
Dataset = Annotated[
    str,
    BeforeValidator(_to_dataset),
    _rule(f"must be one of {', '.join(DATASETS)}, folder:PATH"),
]
Splits = Annotated[
    tuple[Split, ...],
    BeforeValidator(_to_splits),
    Field(min_length=1),
    _rule("must be a comma list of test, train without repeats"),
]


class Params(BaseModel):
    """Base of all parameter models: no unknown names, no changes, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    schedule: Literal["constant", "cosine", "step"] = Field(
        "constant", description="learning rate over the epochs"
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

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ParameterError(
                "warmup_epochs",
                f"must be an integer < epochs, which is {self.epochs}",
                self.warmup_epochs,
                f"Pass --warmup_epochs {self.epochs - 1} or less, or more epochs.",
            )
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        if self.mode != "probe" and "train" not in self.record:
            raise ParameterError(
                "mode",
                "must be probe when train is not in record: only training batches have"
                " inline losses",
                self.mode,
                "Pass --record test,train or --mode probe.",
            )
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


class TrainParams(LoopParams):
    """Train a classifier and record every sample's loss."""

    dataset: Dataset = Field("digits", description="images to train on")
    model: ModelName = Field("cnn_keras", description="architecture, see projects/models/README.md")
    data_dir: str = Field(
        "auto",
        min_length=1,
        description="where downloads live; auto = the user's cache",
        json_schema_extra={"rule": "must be a folder or auto"},
    )
    ferplus_labels: Literal["majority", "probability"] = Field(
        "majority", description="of ferplus: the class most voted for, or shares of the votes"
    )
    augment: Literal["none", "flip_crop"] = Field(
        "none", description="training images only: random crop and horizontal flip"
    )
    label_noise: float = Field(0.0, ge=0, lt=1, description="fraction of wrong training labels")
    noise_kind: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="any other class, or the next class"
    )
    noise_seed: int = Field(
        -1, ge=-1, le=MAX_SEED, description="which labels are wrong; -1 = as seed"
    )
    noisy_labels: str = Field(
        "", description="CSV file of id,label: training labels to replace; empty = none"
    )
    image_size: int = Field(0, ge=0, description="resize and centre-crop to it; 0 = as stored")
    save_features: Bool = Field(
        default=False, description="log the last feature layer of each sample"
    )
    save_probabilities: Bool = Field(
        default=False, description="log the trained model's class probabilities of each sample"
    )

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
    def _check_ferplus_labels(self) -> Self:
        if self.ferplus_labels == "majority":
            return self
        if self.dataset != "ferplus":
            rule = f"must be majority with dataset {self.dataset}, which has no votes"
        elif self.noisy_labels or self.label_noise:
            rule = "must be majority with wrong labels: shares of votes can't be replaced by them"
        else:
            return self
        raise ParameterError(
            "ferplus_labels", rule, self.ferplus_labels, "Pass --ferplus_labels majority."
        )

    @property
    def noisy_labels_path(self) -> Path:
        """File of wrong labels; meaningless where `noisy_labels` is empty."""
        return Path(self.noisy_labels).expanduser()

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


class CompareParams(Params):
    """Compare or report on tracked runs."""

    run_ids: str = Field("", description="comma list of run ids; empty = by experiment and filter")
    experiment: str = Field("", description="name of an experiment; empty = that of this run")
    filter: str = Field("", description="MLflow filter string")
    record: str = Field("", description="record to read, e.g. test-probe; empty = the usual one")
    score: str = Field("action", min_length=1, description="score to compare")
    on_mismatch: Literal["error", "inner"] = Field(
        "error", description="if samples differ: refuse, or keep those that all share"
    )
    up_to_step: int = Field(-1, ge=-1, description="score up to this step only; -1 = all steps")
    bootstrap: int = Field(500, ge=0, description="resamples for the confidence intervals")

    @property
    def step_limit(self) -> int | None:
        """`up_to_step`, or None for all steps."""
        return None if self.up_to_step < 0 else self.up_to_step

    def query(self, experiment: str) -> RunQuery:
        """Which runs to read, in `experiment` unless run ids or another one are named."""
        ids = tuple(each.strip() for each in self.run_ids.split(",") if each.strip())
        named = (self.experiment or experiment,)
        return RunQuery(
            run_ids=ids,
            experiments=() if ids else named,
            filter_string=self.filter,
            record=self.record or None,
        )


class DemoParams(Params):
    """Train two models with two seeds each, compare the runs, report on them."""

    dataset: Dataset = Field("digits", description="images to train on")
    models: Annotated[tuple[ModelName, ...], BeforeValidator(to_tuple)] = Field(
        ("cnn_keras", "resnet_v2"),
        min_length=1,
        description="architectures",
        json_schema_extra={"rule": f"must be a comma list of {', '.join(get_args(ModelName))}"},
    )
    seeds: int = Field(2, ge=1, description="runs of each model")
    epochs: int = Field(8, ge=1, description="passes over the training split")
    subset: int = Field(0, ge=0, description="training images to use, by class; 0 = all")
    parallel: int = Field(1, ge=1, description="training runs at once")
    bootstrap: int = Field(500, ge=0, description="resamples for the confidence intervals")

    @property
    def seed_numbers(self) -> range:
        """The seeds, from 0."""
        return range(self.seeds)

    def shared(self) -> dict[str, str]:
        """Parameters that every training run shares, as text."""
        values = to_strings(self)
        return {name: values[name] for name in ("dataset", "epochs", "subset")}


_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
_NOUNS: dict[object, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
}


def _bounds(field: FieldInfo) -> str:
    found = [
        f"{sign} {getattr(mark, name)}"
        for name, sign in _BOUNDS
        for mark in field.metadata
        if hasattr(mark, name)
    ]
    return " and ".join(found)


def rule_of(field: FieldInfo) -> str:
    """Tell in words what a field accepts.

    Args:
        field: A field of a pydantic model: text, a whole number, a number, a truth value or a
            `typing.Literal`; others carry their rule under ``json_schema_extra["rule"]``.

    Returns:
        A clause, e.g. ``must be a number >= 0 and < 1`` or ``must be one of a, b, c``.
    """
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "rule" in extra:
        return str(extra["rule"])
    if get_origin(field.annotation) is Literal:
        return f"must be one of {', '.join(map(str, get_args(field.annotation)))}"
    noun = _NOUNS.get(field.annotation, "a valid value")
    return f"must be {noun} {_bounds(field)}".rstrip()


def _text(value: object) -> str:
    """Spell a value as the command line does."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def defaults(model_class: type[BaseModel]) -> dict[str, str]:
    """Spell the default of every parameter as `MLproject` declares it, in field order."""
    return {name: _text(field.default) for name, field in model_class.model_fields.items()}


def to_strings(params: BaseModel) -> dict[str, str]:
    """Spell all parameters as the command line does, e.g. for MLflow or for a child run.

    Args:
        params: A validated model.

    Returns:
        Name to text in field order; `parse` reads it back to an equal model.
    """
    return {name: _text(value) for name, value in params}


def _nearest(model_class: type[BaseModel], name: str) -> str:
    near = difflib.get_close_matches(name, model_class.model_fields, n=1, cutoff=0.5)
    return f"Did you mean --{near[0]}?" if near else "Run with --help to see all parameters."


def _unknown(model_class: type[BaseModel], name: str) -> ParameterError:
    return ParameterError(
        name, "must be the name of a parameter", f"--{name}", _nearest(model_class, name)
    )


def _to_parameter_error(model_class: type[BaseModel], error: ValidationError) -> ParameterError:
    """Turn pydantic's first complaint into one of ours."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        return cause
    name = str(first["loc"][0])
    if name not in model_class.model_fields:
        return _unknown(model_class, name)
    field = model_class.model_fields[name]
    if field.is_required():
        remedy = f"Pass --{name} VALUE."
    else:
        remedy = f"Leave it out for the default, {_text(field.default) or 'empty'}."
    return ParameterError(name, rule_of(field), first["input"], remedy)


def validate(model_class: type[Model], values: Mapping[str, object]) -> Model:
    """Check values against a parameter model.

    Args:
        model_class: The model, e.g. `TrainParams`.
        values: Name to value; text is converted to the field's type.

    Returns:
        The frozen model, defaults filled in.

    Raises:
        ParameterError: An unknown name, a missing one or a value that breaks a rule.
    """
    try:
        return model_class.model_validate(dict(values))
    except ValidationError as error:
        raise _to_parameter_error(model_class, error) from None


def _rows(model_class: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"--{name}",
            "(required)" if field.is_required() else _text(field.default) or '""',
            rule_of(field).removeprefix("must be "),
            field.description or "",
        )
        for name, field in model_class.model_fields.items()
    ]


def usage(model_class: type[BaseModel]) -> str:
    """Write the help text: what the entry point does and a table of its parameters.

    Args:
        model_class: The model; the first line of its docstring is the title.

    Returns:
        Lines of text with the columns parameter, default, rule, description.
    """
    rows = [("parameter", "default", "rule", "description"), *_rows(model_class)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    title = (model_class.__doc__ or model_class.__name__).splitlines()[0]
    return "\n".join([title, "", "Usage: --name value or --name=value", "", *lines])


def _pair(model_class: type[BaseModel], words: list[str]) -> tuple[str, str]:
    """Take one ``--name value`` or ``--name=value`` off the front of the words."""
    word = words.pop(0)
    if not word.startswith("--") or word == "--":
        raise ParameterError(
            "command line", "must be pairs of --name value", word, "Put --NAME before the value."
        )
    name, equals, value = word[2:].partition("=")
    name = name.replace("-", "_")
    if name not in model_class.model_fields:
        raise _unknown(model_class, name)
    if not equals:
        if not words or words[0].startswith("--"):
            raise ParameterError(
                name, "must be followed by a value", word, f"Pass --{name} VALUE or --{name}=VALUE."
            )
        value = words.pop(0)
    return name, value


def parse(model_class: type[Model], argv: Sequence[str]) -> Model:
    """Read ``--name value`` and ``--name=value`` pairs into a parameter model.

    Names may be written with ``-`` or ``_`` and never abbreviated. ``--help`` prints `usage` and
    leaves with exit code 0.

    Args:
        model_class: The model, e.g. `TrainParams`.
        argv: The words of the command line without the program's name.

    Returns:
        The frozen model.

    Raises:
        ParameterError: An unknown, repeated or valueless name, a word without a name or a value
            that breaks a rule.
        SystemExit: With code 0, after ``--help`` or ``-h``.
    """
    if {"--help", "-h"} & set(argv):
        print(usage(model_class))
        raise SystemExit(0)
    values: dict[str, object] = {}
    words = list(argv)
    while words:
        name, value = _pair(model_class, words)
        if name in values:
            raise ParameterError(name, "must be given once", value, "Remove one of the two.")
        values[name] = value
    return validate(model_class, values)


def run_main(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run an entry point; what fails on purpose is one line on stderr, not a traceback.

    Args:
        main: Takes the words of the command line and returns an exit code, None meaning 0.
        argv: The words; None means those of this process.

    Returns:
        The exit code: that of `main`, of the error (see `actiontrack.errors`), 130 after Ctrl-C
        or 143 after SIGTERM. Other exceptions pass through.
    """
    try:
        return main(list(sys.argv[1:] if argv is None else argv)) or 0
    except ActionTrackError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Terminated:
        print("terminated: what was recorded is safe", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
