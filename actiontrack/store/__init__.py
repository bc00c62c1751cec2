"""The tracking server: only this package calls MLflow's tracking, and translates its errors.

A run that holds records carries these tags, so that runs are found without listing artifacts:

    actiontrack.format          version of the record's format
    actiontrack.record.NAME     state of the record NAME, such as "test-probe": recording, complete
    actiontrack.manifest.NAME   its manifest, where it is complete and short, see `store.tags`
    actiontrack.writer.NAME.ID  the process that writes the record NAME, so that no two do
    actiontrack.model           name of the model: the key by which same-model runs are grouped
"""

from actiontrack.store.active import (
    Terminated,
)
from actiontrack.store.artifacts import (
    Artifacts,
)
from actiontrack.store.cache import (
    Cache,
)
from actiontrack.store.record import (
    StoredRecord,
)
from actiontrack.store.runs import (
    ARTIFACT_ROOT,
    FORMAT_TAG,
    MODEL_TAG,
    RunInfo,
    RunQuery,
    choose_record,
)
from actiontrack.store.store import (
    Store,
)

__all__ = [
    "ARTIFACT_ROOT",
    "FORMAT_TAG",
    "MODEL_TAG",
    "Artifacts",
    "Cache",
    "RunInfo",
    "RunQuery",
    "Store",
    "StoredRecord",
    "Terminated",
    "choose_record",
]
