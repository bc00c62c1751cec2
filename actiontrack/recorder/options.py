"""What a recorder was asked for, checked once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actiontrack._version import __version__
from actiontrack.errors import ParameterError
from actiontrack.history import DELTA_KINDS, MODES, check_choice
from actiontrack.record.limits import PRECISIONS
from actiontrack.record.manifest import Manifest, check_fields
from actiontrack.record.paths import check_name
from actiontrack.recorder.checks import (
    check_class_names,
    check_maps,
    check_source,
    warn_of_missing_folder,
)
from actiontrack.recorder.epoch import Gather
from actiontrack.recorder.privacy import Privacy

__all__ = ["Options", "empty_manifest"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a recorder takes what it is given; see `actiontrack.recorder.Recorder` for each.

    Attributes:
        duplicates: "error" or "first".
        allow_missing: whether epochs need not see every sample.
        allow_uniform: whether the losses of a batch may all be equal.
        first_epoch: number that the loop gives to the first trained epoch, or None.
        gather: collects the columns of all processes, or None.
        patience: seconds to wait at the end for a server that does not answer.
        durable: whether an epoch must outlast a power cut once it is recorded.
    """

    duplicates: str | None = None
    allow_missing: bool = False
    allow_uniform: bool = False
    first_epoch: int | None = None
    gather: Gather | None = None
    patience: float = 30.0
    durable: bool = False

    def __post_init__(self) -> None:
        """Fill the default that depends on another option, then check."""
        duplicates = self.duplicates or ("first" if self.gather else "error")
        check_choice("duplicates", duplicates, ("error", "first"))
        object.__setattr__(self, "duplicates", duplicates)
        if self.first_epoch not in {None, 0, 1}:
            remedy = "Pass 0 if the loop counts from 0, 1 if 0 stands for the untrained model."
            raise ParameterError("first_epoch", "must be 0 or 1", self.first_epoch, remedy)


def empty_manifest(
    *,
    split: str,
    mode: str,
    model: str,
    class_names: Sequence[str],
    loss_name: str | None,
    delta_kind: str,
    pixel_loss_name: str,
    void: str,
    map_factor: int,
    map_dtype: str,
    precision: str,
    source: Mapping[str, Any] | None,
    privacy: Privacy,
    gathers: bool,
) -> Manifest:
    """The manifest of a record that has no epoch yet.

    Raises:
        ParameterError: if an option breaks its rule.
    """
    check_name("split", split)
    check_choice("mode", mode, MODES)
    check_choice("delta_kind", delta_kind, tuple(DELTA_KINDS))
    check_choice("precision", precision, PRECISIONS)
    if void:
        check_choice("void", void, ("ignored", "counted"))
    check_maps(pixel_loss_name, map_factor, map_dtype, gathers=gathers)
    check_source(source)
    source = None if privacy.hides_places else source
    manifest = Manifest(
        split=split,
        mode=mode,
        loss_name=loss_name or "",
        delta_kind=delta_kind,
        n_samples=0,
        id_type="",
        digests={},
        class_names=check_class_names(class_names),
        model=model,
        source=source,
        privacy=privacy.entry,
        pixel_loss_name=pixel_loss_name,
        void=void,
        precision=precision,
        maps={"factor": map_factor, "dtype": map_dtype} if pixel_loss_name else None,
        writer=f"actiontrack {__version__}",
    )
    check_fields(manifest)
    warn_of_missing_folder(source)
    return manifest
