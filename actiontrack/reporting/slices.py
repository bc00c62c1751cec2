"""The section on slices: which groups of the attributes that are kept with records are hard."""

from collections.abc import Sequence
from dataclasses import dataclass

from actiontrack.analysis.options import SlicesOptions, validated
from actiontrack.analysis.sentences import describe_slices
from actiontrack.analysis.slices import Slices, has_metadata
from actiontrack.analysis.slices.answers import slices_of
from actiontrack.errors import DataError, NotComparableError
from actiontrack.reporting.document import Section
from actiontrack.store import StoredRecord

__all__ = ["SliceFindings", "find_slices", "slice_sections"]

_LISTED = 10
_COLUMNS = ["slice", "n", "rank_difference", "p_harder", "ci_low", "ci_high", "p_value", "q_value"]


@dataclass(frozen=True, kw_only=True)
class SliceFindings:
    """Which groups of the attributes are hard.

    Attributes:
        result: the slices that differ from the rest of their classes; None where none was tried.
        sentence: what was found, or why nothing was tried.
    """

    result: Slices | None
    sentence: str


def find_slices(
    records: Sequence[StoredRecord], *, score: str = "action", up_to_step: int | None = None
) -> SliceFindings | None:
    """The slices of records that compare; None if no attributes are kept with them.

    Args:
        records: open records.
        score: by which samples are ranked.
        up_to_step: score the history up to this step only.
    """
    if not any(has_metadata(record) for record in records):
        return None
    choice = {"score": score, "on_mismatch": "inner", "up_to_step": up_to_step}
    options = validated(SlicesOptions, choice)
    try:
        result = slices_of(records, options)
    except (DataError, NotComparableError) as error:
        message = str(error)
        return SliceFindings(result=None, sentence=message[:1].upper() + message[1:])
    return SliceFindings(result=result, sentence=describe_slices(result))


def slice_sections(findings: SliceFindings | None) -> list[Section]:
    """The slices that differ most, the hardest first."""
    if findings is None:
        return []
    heading = "Slices: bias by attribute"
    if findings.result is None or findings.result.table.empty:
        return [Section(heading=heading, text=findings.sentence)]
    table = findings.result.table
    text = (
        f"{findings.sentence} Samples are compared with the others of their own classes, by rank; "
        "q_value is the rate of false discoveries over all slices that were tried. A slice that is "
        "harder is no proof of a cause: look at its images."
    )
    caption = "The hardest first."
    if len(table) > _LISTED:
        caption = f"The {_LISTED} of {len(table)} slices that differ most, the hardest first."
        strongest = (table["p_harder"] - 0.5).abs().nlargest(_LISTED).index
        table = table.loc[sorted(strongest)]
    frame = table[_COLUMNS].reset_index(drop=True)
    return [Section(heading=heading, text=text, frame=frame, caption=caption)]
