"""Parameters of the entry points that read tracked runs, and of the demo that makes some."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from actiontrack.errors import ParameterError
from actiontrack.store import RunQuery
from projects.params.fields import Dataset, ModelNames
from projects.params.reading import Params, to_strings

__all__ = ["CompareParams", "DemoParams", "check_two_runs"]


def check_two_runs(models: Sequence[str], seeds: int) -> None:
    """Refuse trainings that leave nothing to compare.

    Args:
        models: architectures.
        seeds: runs of each.

    Raises:
        ParameterError: One model with one seed.
    """
    if len(models) * seeds < 2:
        raise ParameterError(
            "seeds",
            "must be an integer >= 2 with a single model: a comparison needs two runs",
            seeds,
            "Pass --seeds 2 or more, or several models.",
        )


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
        ids = tuple(run_id.strip() for run_id in self.run_ids.split(",") if run_id.strip())
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
    models: ModelNames = Field(("cnn_keras", "resnet_v2"), description="architectures")
    seeds: int = Field(2, ge=1, description="runs of each model")
    epochs: int = Field(8, ge=1, description="passes over the training split")
    subset: int = Field(0, ge=0, description="training images to use, by class; 0 = all")
    parallel: int = Field(1, ge=1, description="training runs at once")
    bootstrap: int = Field(500, ge=0, description="resamples for the confidence intervals")

    @model_validator(mode="after")
    def _check_two_runs(self) -> Self:
        check_two_runs(self.models, self.seeds)
        return self

    @property
    def seed_numbers(self) -> range:
        """The seeds, from 0."""
        return range(self.seeds)

    def shared(self) -> dict[str, str]:
        """Parameters that every training run shares, as text."""
        values = to_strings(self)
        return {name: values[name] for name in ("dataset", "epochs", "subset")}
