"""Slices: samples that share an attribute, and whether they are harder than the others.

Attributes come from a table (`read_metadata_file`), which may be kept beside the record
(`add_metadata`); `sliced` puts them together with runs, `slices` compares every group of an
attribute, and of two, with the rest of its classes. `early_minorities` needs no attributes.
"""

from actiontrack.analysis.slices.attributes import (
    MISSING,
    Attribute,
)
from actiontrack.analysis.slices.clusters import (
    feature_clusters,
)
from actiontrack.analysis.slices.differences import (
    SliceDifferences,
    harder_slices,
    slice_differences,
)
from actiontrack.analysis.slices.early import (
    early_minorities,
    early_samples,
)
from actiontrack.analysis.slices.effects import (
    CLASS,
    Sliced,
    Slices,
    sliced,
    slices,
)
from actiontrack.analysis.slices.images import (
    PROPERTIES,
    image_properties,
)
from actiontrack.analysis.slices.members import (
    Strip,
    in_slices,
    members_of,
    strips,
)
from actiontrack.analysis.slices.metadata import (
    add_metadata,
    has_metadata,
    read_metadata,
    read_metadata_file,
    shared_metadata,
)
from actiontrack.analysis.slices.search import (
    search_slices,
)
from actiontrack.record.attributes import (
    KINDS,
    checked_metadata,
)

__all__ = [
    "CLASS",
    "KINDS",
    "MISSING",
    "PROPERTIES",
    "Attribute",
    "SliceDifferences",
    "Sliced",
    "Slices",
    "Strip",
    "add_metadata",
    "checked_metadata",
    "early_minorities",
    "early_samples",
    "feature_clusters",
    "harder_slices",
    "has_metadata",
    "image_properties",
    "in_slices",
    "members_of",
    "read_metadata",
    "read_metadata_file",
    "search_slices",
    "shared_metadata",
    "slice_differences",
    "sliced",
    "slices",
    "strips",
]
