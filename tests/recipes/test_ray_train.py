"""Ray Train: two workers, one of which fails; the record is that of a training without a failure.

Ray starts a dozen processes, so this is left to the long tests.
"""

import shutil

import numpy as np
import pytest
import torch
from helpers import steps_of
from recipe import FOLDER
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DistributedSampler

from actiontrack.store import Store

EPOCHS = 3
#: A rank fails once: in the second epoch, after it was recorded and before it was reported.
FAILURE = """
            if epoch == 2 and ray.train.get_checkpoint() is None:
                if ray.train.get_context().get_world_rank() == 1:
                    raise RuntimeError("the power went")
"""


@pytest.mark.long
def test_a_failed_rank_and_its_restart_leave_one_whole_record(
    in_subprocess, tmp_path, empty_database
):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = (FOLDER / "ray_train.py").read_text(encoding="utf-8")
    end = "            recorder.end_epoch(epoch)  # 8: before the report, and with its number\n"
    assert end in code
    settings = {"RAY_agent_register_timeout_ms": "200000", "RAY_raylet_start_wait_time_s": "200"}
    settings |= {"PYTHONWARNINGS": "ignore", "RAY_AUTH_MODE": "disabled"}
    done = in_subprocess(
        "import warnings\nwarnings.simplefilter('ignore')\n" + code.replace(end, end + FAILURE),
        EPOCHS,
        MLFLOW_TRACKING_URI=uri,
        timeout=500,
        **settings,
    )
    assert "the power went" in done.stdout + done.stderr
    (run,) = Store(uri)._client.search_runs(["0"])
    record = Store(uri).open_record(run.info.run_id)
    history = record.history()
    assert run.info.status == "FINISHED"
    assert record.manifest.complete
    assert history.steps.tolist() == [1, 2, 3]
    assert [step.n_seen for step in steps_of(record)] == [1797] * 3
    assert history.sample_ids.tolist() == list(range(1797))
    np.testing.assert_allclose(history.losses, losses_of_one_process(), rtol=1e-3, atol=1e-5)


def losses_of_one_process():
    """The same training by hand: a step takes the mean gradient of the batches of both ranks."""
    torch.manual_seed(0)
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(inputs / 16).float(), torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    samplers = [DistributedSampler(labels, 2, rank) for rank in range(2)]
    losses = np.full((EPOCHS, len(labels)), np.nan)
    for epoch in range(1, EPOCHS + 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        orders = [torch.tensor(list(sampler)).split(64) for sampler in samplers]
        for batches in zip(*orders, strict=True):
            optimizer.zero_grad()
            for rows in batches:
                loss = nn.functional.cross_entropy(
                    model(inputs[rows]), labels[rows], reduction="none"
                )
                (loss.mean() / 2).backward()
                first = np.isnan(losses[epoch - 1, rows])
                losses[epoch - 1, rows[first]] = loss.detach().numpy()[first]
            optimizer.step()
    return losses
