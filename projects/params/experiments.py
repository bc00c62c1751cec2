"""Parameters that all experiments share: a scale, whose preset fills what the user leaves out."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from projects.params.fields import Dataset
from projects.params.reading import Params, validate
from projects.params.recipes import recipe_of
from projects.params.training import TrainParams

__all__ = ["AUTO", "ExperimentParams", "Scale", "ScaledParams", "auto"]

Scale = Literal["smoke", "cpu", "paper"]
AUTO = "auto"

_COMPUTE: dict[str, dict[str, object]] = {
    "smoke": {"parallel": 1, "threads": 1, "precision": "float32"},
    "cpu": {"parallel": 2, "threads": 1, "precision": "bf16"},
    "paper": {"parallel": 1, "threads": 0, "precision": "auto"},
}
_DATA: dict[str, dict[str, object]] = {
    "smoke": {"dataset": "digits", "subset": 0, "test_subset": 0},
    "cpu": {"dataset": "cifar10", "subset": 10_000, "test_subset": 0},
    "paper": {"dataset": "cifar10", "subset": 0, "test_subset": 0},
}


def auto(**options: Any) -> Any:  # pydantic types it so
    """A field that the preset of the scale fills unless the user gives a value."""
    return Field(AUTO, **options)


def _as_in_training(name: str) -> Any:  # pydantic types it so
    """The field of `TrainParams` with this name."""
    return TrainParams.model_fields[name]


class ScaledParams(Params):
    """Base of the parameters of an experiment.

    A subclass adds fields and, in `presets`, their values at each scale. A field of a preset has
    the default ``auto``: without a value, or with ``auto``, it takes the preset's value.
    """

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    _chosen: frozenset[str] = PrivateAttr(default=frozenset())  # in the place of the preset's

    scale: Scale = Field(
        "smoke", description="digits in a minute, CIFAR-10 on 2 cores, or the paper's own settings"
    )
    data_dir: str = _as_in_training("data_dir")
    subset: int = auto(ge=0, description="training images to use, by class; 0 = all")
    test_subset: int = auto(ge=0, description="test images to use, by class; 0 = all")
    epochs: int = auto(ge=1, description="passes over the training split")
    parallel: int = auto(ge=1, description="training runs at once; 1 = in this process")
    threads: int = auto(ge=0, description="of PyTorch in each run, on the CPU; 0 = its default")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    precision: Literal["auto", "float32", "bf16"] = auto(
        description="of the forward pass; auto = bf16 on CUDA, else float32"
    )

    @classmethod
    def preset(cls, scale: str) -> dict[str, object]:
        """All values that a scale fills in."""
        existing = scale if scale in _COMPUTE else "smoke"
        values = _DATA[existing] | _COMPUTE[existing] | dict(cls.presets.get(existing, {}))
        return {name: value for name, value in values.items() if name in cls.model_fields}

    @model_validator(mode="wrap")  # the validators of a subclass come after it
    @classmethod
    def _fill(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        """Put the preset's values where the user gives none; an unknown scale is refused later."""
        chosen = {name: value for name, value in dict(values).items() if value != AUTO}
        left_to_preset = {name: AUTO for name, value in dict(values).items() if value == AUTO}
        preset = cls.preset(str(values.get("scale", "smoke")))
        params = check(left_to_preset | preset | chosen)
        params._chosen = frozenset(chosen.keys() & preset.keys())  # noqa: SLF001 - its own
        return params

    def is_given(self, name: str) -> bool:
        """Whether the user chose the value of a parameter, be it equal to that of the preset.

        Of what the preset fills only ``auto`` counts as not chosen: MLproject passes that.
        """
        if name in self.preset(self.scale):
            return name in self._chosen
        return super().is_given(name)

    def training(self, **changes: object) -> TrainParams:
        """One training of this experiment: the parameters of the same name, and `changes`.

        Where a model has a recipe, it takes the place of what the scale fills in, and a triangular
        schedule that of the scale's warm-up. The training has all of it by name and follows no
        recipe of its own, so that it stays the same in a process of its own. It makes no report:
        the experiment makes one.

        Raises:
            ParameterError: The training can't have these values.
        """
        shared = {name: value for name, value in self if name in TrainParams.model_fields}
        recipe = recipe_of(str((shared | changes).get("model", "")))
        shared |= {name: value for name, value in recipe.items() if not self._has_chosen(name)}
        if shared.get("schedule") == "triangular" and not self._has_chosen("warmup_epochs"):
            shared["warmup_epochs"] = 0
        recipes = {"recipe": "none"} if recipe else {}
        return validate(TrainParams, shared | recipes | {"report": False} | changes)

    def _has_chosen(self, name: str) -> bool:
        return name in type(self).model_fields and self.is_given(name)


class ExperimentParams(ScaledParams):
    """Parameters of an experiment on one dataset."""

    dataset: Dataset = auto(description="images to train on")
