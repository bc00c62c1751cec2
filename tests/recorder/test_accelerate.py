"""Accelerate in two processes: its padding is dropped by id, the record is that of one process."""

import numpy as np
from helpers import steps_of

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


def test_two_processes_record_what_one_does(in_warm_process, in_two_processes, store, new_run):
    runs = [new_run(), new_run()]
    in_warm_process(SCRIPT, store.tracking_uri, runs[0], preload=["accelerate"])
    in_two_processes(SCRIPT, store.tracking_uri, runs[1], preload=["accelerate"])
    alone, together = (store.open_record(run_id) for run_id in runs)
    assert all(step.n_duplicates > 0 for step in steps_of(together))
    assert [step.n_seen for step in steps_of(together)] == [11, 11]
    assert together.manifest.digests == alone.manifest.digests
    np.testing.assert_allclose(together.history().losses, alone.history().losses, rtol=1e-6)
