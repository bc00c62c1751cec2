"""Parameters of the entry points: pydantic models, one module per kind of entry point."""

from projects.params.comparing import CompareParams, DemoParams
from projects.params.fields import DATASETS, Dataset, ModelName, to_tuple
from projects.params.reading import (
    Params,
    defaults,
    parse,
    rule_of,
    run_main,
    to_strings,
    usage,
    validate,
)
from projects.params.training import LoopParams, TrainParams

__all__ = [
    "DATASETS",
    "CompareParams",
    "Dataset",
    "DemoParams",
    "LoopParams",
    "ModelName",
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
