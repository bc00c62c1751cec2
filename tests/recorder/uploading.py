"""What the tests of the upload share: fifty samples, and what is to be there in the end."""

import time

import numpy as np

N = 50


def losses_at(epoch):
    return np.random.default_rng(epoch).gamma(1, 1, N).astype(np.float32)


def timed_epoch(recorder, epoch):
    """Seconds that training is held up by an epoch."""
    start = time.monotonic()
    recorder.update(np.arange(N), losses_at(epoch))
    recorder.end_epoch(epoch)
    return time.monotonic() - start


def expected(n_epochs):
    return [losses_at(each) for each in range(1, n_epochs + 1)]


def warnings_of(caplog):
    return [each.getMessage() for each in caplog.records if each.name == "actiontrack"]


def assert_whole(store, run_id, n_epochs, *, complete=True):
    record = store.open_record(run_id)
    np.testing.assert_array_equal(record.history().losses, expected(n_epochs))
    assert record.manifest.complete is complete
