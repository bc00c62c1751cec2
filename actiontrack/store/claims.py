"""Which process writes a record: each one puts up a tag of its own, so that no two write it.

Two processes that record the same run on different machines would otherwise replace each other's
files. Some services show a tag seconds after it was set: whoever has set one waits until it sees
it, since only then can it be seen by a process that sets its own later.
"""

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from actiontrack.errors import NotFoundError, RecordingError, StoreError
from actiontrack.store.logging import set_tags
from actiontrack.store.runs import writer_tag, writers_in
from actiontrack.store.tags import manifest_tag
from actiontrack.store.translation import translated

__all__ = ["begin_changes", "check_claim", "claim_record", "release_record"]

_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)  # between looks for a tag that was set a moment ago
_ATTEMPTS = 4  # to become the only writer, where two begin at the same time


def claim_record(client: Any, run_id: str, record: str, writers: Sequence[str]) -> None:
    """Make a process the only writer of a record, see `Store.claim_record`.

    Each process sets a tag of its own and then looks for those of others: of two, the later one is
    sure to see the earlier. A process that sees another one removes its own tag.

    Raises:
        RecordingError: if a process that is not among the writers writes the record.
        StoreError: if the server does not show what was written.
    """
    this_process = writers[-1]
    for attempt in range(1, _ATTEMPTS + 1):
        set_tags(client, run_id, {writer_tag(record, this_process): this_process})
        tags = _tags_with(client, run_id, record, this_process)
        if this_process not in writers_in(tags, record):
            raise StoreError(
                f"run {run_id}: the tracking server does not show the tag that was just set, so "
                "nobody can tell who writes the record. Try again later."
            )
        others = [name for name in writers_in(tags, record) if name != this_process]
        unknown = [name for name in others if name not in writers]
        if not unknown:
            for earlier in others:
                release_record(client, run_id, record, earlier)
            begin_changes(client, run_id, record, tags)
            return
        release_record(client, run_id, record, this_process)
        if attempt < _ATTEMPTS:  # both may have seen each other
            time.sleep(random.uniform(0.05, 0.5))
    raise _written_by(run_id, record, unknown[0])


def check_claim(client: Any, run_id: str, record: str, writer: str) -> None:
    """Check that a process that claimed a record is still its writer.

    Raises:
        RecordingError: if another process has taken over.
    """
    writers = writers_in(_tags_with(client, run_id, record, writer), record)
    if writer not in writers:
        raise _written_by(run_id, record, writers[0] if writers else "one that has ended")


def release_record(client: Any, run_id: str, record: str, writer: str) -> None:
    """Remove the tag of a process, if there is one."""
    with contextlib.suppress(NotFoundError), translated(f"tags of run {run_id}"):
        client.delete_tag(run_id, writer_tag(record, writer))


def begin_changes(client: Any, run_id: str, record: str, tags: Mapping[str, str]) -> None:
    """Take a manifest out of the run's tags, if they hold one, before any file of it changes."""
    changed = manifest_tag(record, None)
    if any(tags.get(name, text) != text for name, text in changed.items()):
        set_tags(client, run_id, changed)


def _tags_with(client: Any, run_id: str, record: str, writer: str) -> Mapping[str, str]:
    """Tags of a run, asked for again for some seconds where they don't name the writer yet."""
    tags = _tags(client, run_id)
    for pause in _PAUSES_S:
        if writer in writers_in(tags, record):
            break
        time.sleep(pause)
        tags = _tags(client, run_id)
    return tags


def _tags(client: Any, run_id: str) -> Mapping[str, str]:
    with translated(f"run {run_id!r}"):
        tags: Mapping[str, str] = client.get_run(run_id).data.tags
    return tags


def _written_by(run_id: str, record: str, writer: str) -> RecordingError:
    return RecordingError(
        f"run {run_id}: its record {record} is written by another process: {writer}. "
        "Record into a run of your own, or continue that record with resume=True once the "
        "process has ended."
    )
