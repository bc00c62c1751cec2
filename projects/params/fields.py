"""Types of parameters that several entry points share, each with the rule that a message shows."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

__all__ = [
    "DATASETS",
    "MAX_SEED",
    "NOISE_KINDS",
    "Bool",
    "Dataset",
    "ModelName",
    "ModelNames",
    "Names",
    "Noises",
    "SplitName",
    "Splits",
    "label_file",
    "rule",
    "to_tuple",
]

DATASETS = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "ferplus")
NOISE_KINDS = ("symmetric", "asymmetric")
MAX_SEED = 2**32 - 1  # the largest seed that PyTorch, NumPy and scikit-learn all take

SplitName = Literal["test", "train"]
ModelName = Literal["cnn_keras", "resnet_v2", "xception_mini", "vgg5", "cnn3", "speednet"]


def rule(text: str) -> Any:  # pydantic types it so
    """Mark a field with a rule that its type alone does not express."""
    return Field(json_schema_extra={"rule": text})


def to_tuple(value: object) -> object:
    """Split a comma list; other values stay as they are."""
    return tuple(value.split(",")) if isinstance(value, str) else value


def label_file(text: str) -> tuple[Path, str]:
    """Path and label set of ``FILE`` or ``FILE#SET``; the set is empty where none is named.

    A file that is there under the whole text is that file, whatever # its name holds.
    """
    whole = Path(text).expanduser()
    path, mark, label_set = text.rpartition("#")
    if not mark or whole.is_file():
        return whole, ""
    return Path(path).expanduser(), label_set


def _to_bool(value: object) -> object:
    """Accept the words true and false (any case) and no other text."""
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


def _to_splits(value: object) -> object:
    """Split a comma list and refuse repeated names."""
    names = to_tuple(value)
    if isinstance(names, tuple) and len(set(names)) != len(names):
        raise ValueError(value)
    return names


def _to_names(value: object) -> object:
    """Split a comma list of names, each once; the empty text is the empty list."""
    names = to_tuple(value) if value != "" else ()
    if isinstance(names, tuple) and (len(set(names)) < len(names) or not all(names)):
        raise ValueError(value)
    return names


def _to_noises(value: object) -> object:
    """Split a comma list of kinds of noise and of files, each once."""
    noises = _to_names(value)
    if isinstance(noises, tuple) and not all(
        noise in NOISE_KINDS or noise.removeprefix("file:") not in ("", noise) for noise in noises
    ):
        raise ValueError(value)
    return noises


Bool = Annotated[bool, BeforeValidator(_to_bool)]
Dataset = Annotated[
    str,
    BeforeValidator(_to_dataset),
    rule(f"must be one of {', '.join(DATASETS)}, folder:PATH"),
]
ModelNames = Annotated[
    tuple[ModelName, ...],
    BeforeValidator(to_tuple),
    Field(min_length=1),
    rule(f"must be a comma list of {', '.join(get_args(ModelName))}"),
]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_to_names),
    rule("must be a comma list of names without repeats"),
]
Noises = Annotated[
    tuple[str, ...],
    BeforeValidator(_to_noises),
    Field(min_length=1),
    rule(f"must be a comma list of {', '.join(NOISE_KINDS)}, file:FILE without repeats"),
]
Splits = Annotated[
    tuple[SplitName, ...],
    BeforeValidator(_to_splits),
    Field(min_length=1),
    rule("must be a comma list of test, train without repeats"),
]
