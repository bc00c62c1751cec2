"""Accelerate in two processes: its padding is dropped by id, the record is that of one process."""

import os
import subprocess
import sys

import numpy as np
from helpers import ROOT

from actiontrack.store import Store

SCRIPT = """
import os, sys
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from actiontrack.recorder import Recorder
from actiontrack.recorder.torch import IndexedDataset, gather
from actiontrack.store import Store

inputs = torch.linspace(-1, 1, 11 * 4).reshape(11, 4).sin()
labels = torch.arange(11) % 3
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
accelerator = Accelerator(cpu=True)
loader = DataLoader(IndexedDataset(TensorDataset(inputs, labels)), batch_size=3, shuffle=True)
model, loader = accelerator.prepare(model, loader)
store = Store(sys.argv[1]) if accelerator.is_main_process else None
with Recorder(run_id=sys.argv[2], store=store, gather=gather) as recorder:
    for epoch in range(2):
        with torch.no_grad():
            for ids, batch, wanted in loader:
                recorder.update(ids, logits=model(batch) * (epoch + 1), labels=wanted)
        recorder.end_epoch()
accelerator.end_training()
"""


def record(tmp_path, uri, *launcher):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    client = Store(uri)._client
    run_id = client.create_run("0").info.run_id
    done = subprocess.run(
        [sys.executable, *launcher, str(path), uri, run_id],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Store(uri).open_record(run_id)


def test_two_processes_record_what_one_does(tmp_path):
    uri = f"sqlite:///{tmp_path}/accelerate.db"
    alone = record(tmp_path, uri)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = record(tmp_path, uri, *launcher)
    assert all(each.n_duplicates > 0 for each in together.manifest.steps)
    assert [each.n_seen for each in together.manifest.steps] == [11, 11]
    assert together.manifest.digests == alone.manifest.digests
    np.testing.assert_allclose(together.history().losses, alone.history().losses, rtol=1e-6)
