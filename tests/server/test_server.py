"""A record through the team's server: login, PostgreSQL and S3, with nothing lost on the way."""

import numpy as np
import pytest

from actiontrack.recorder import Recorder

pytestmark = pytest.mark.server


def test_a_record_comes_back_bit_by_bit(team_store, team_run, spool):
    losses = np.random.default_rng(0).gamma(1, 1, (3, 50)).astype(np.float32)
    run_id = team_run()
    with Recorder(store=team_store, run_id=run_id, spool=spool) as recorder:
        for row in losses:
            recorder.update(np.arange(50), row)
            recorder.end_epoch()
    np.testing.assert_array_equal(team_store.open_record(run_id).history().losses, losses)
