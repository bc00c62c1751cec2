import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import message, steps_of
from torch.utils.data import DataLoader, TensorDataset

from actiontrack.errors import ParameterError
from actiontrack.recorder import Recorder
from actiontrack.recorder.torch import IndexedDataset, gather

N = 13


def dataset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, 4, generator=generator)
    return TensorDataset(inputs, torch.arange(N) % 3)


def files(store, run_id):
    """Content of the files of a record; of those of losses without what padding was dropped."""
    record = store.open_record(run_id)
    blocks = [record.fetch(block.path) for block in record.manifest.blocks]
    names = set(record.manifest.files) - {block.path for block in record.manifest.blocks}
    tables = [pq.read_table(path).replace_schema_metadata(None) for path in blocks]
    return {name: record.fetch(name).read_bytes() for name in names} | {"losses": tables}


# ---------------------------------------------------------------- ids travel with batches


def test_an_item_is_its_index_and_its_parts():
    item = IndexedDataset(dataset())[5]
    assert item[0] == 5
    assert item[1].tolist() == dataset()[5][0].tolist()
    assert item[2] == 2


def test_an_item_that_is_no_tuple_is_one_part():
    assert IndexedDataset([10, 20])[1] == (1, 20)


def test_ids_of_ones_own_take_the_place_of_indices():
    found = IndexedDataset(dataset(), ids=[f"img{each}" for each in range(N)])
    assert found[3][0] == "img3"
    assert len(found) == N


def test_ids_of_another_length_are_refused():
    text = "ids: must have length 13, got 2. Pass one id per item."
    with pytest.raises(ParameterError, match=message(text)):
        IndexedDataset(dataset(), ids=[1, 2])


@pytest.mark.parametrize("ids", [None, [f"img{each:02d}" for each in range(N)]])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_loader_gives_the_losses_of_each_sample(store, run_id, ids, workers):
    loader = DataLoader(
        IndexedDataset(dataset(), ids), batch_size=4, shuffle=True, num_workers=workers
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = torch.nn.Linear(4, 3)
    criterion = torch.nn.CrossEntropyLoss(reduction="none")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with Recorder(store=store, run_id=run_id) as recorder:
        for _ in range(3):
            inputs, labels = dataset().tensors
            optimiser.zero_grad()
            criterion(model(inputs), labels).mean().backward()
            optimiser.step()
            expected.append(criterion(model(inputs), labels).detach().numpy())
            for batch_ids, batch, batch_labels in loader:
                logits = model(batch)
                losses = criterion(logits, batch_labels)
                recorder.update(batch_ids, losses, logits=logits, labels=batch_labels)
            recorder.end_epoch()
    history = store.open_record(run_id).history()
    np.testing.assert_allclose(history.losses, expected, rtol=1e-5)
    assert history.sample_ids.tolist() == (ids or list(range(N)))
    assert history.labels.tolist() == dataset().tensors[1].tolist()


def test_a_loader_that_drops_its_last_batch_leaves_gaps_and_not_easy_samples(store, run_id):
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        IndexedDataset(dataset()), batch_size=4, shuffle=True, drop_last=True, generator=generator
    )
    with Recorder(
        "train", mode="inline", store=store, run_id=run_id, allow_missing=True
    ) as recorder:
        recorder.describe_samples(range(N))
        for _ in range(3):
            for ids, inputs, _ in loader:
                recorder.update(ids, inputs.square().sum(1))
            assert recorder.end_epoch().n_missing == 1
    scores = store.open_record(run_id).scores()
    assert scores["action"].isna().sum() == (scores["n_steps"] < 3).sum() > 0


# ---------------------------------------------------------------- several processes


def test_outside_a_process_group_gathering_changes_nothing(store, new_run):
    runs = [new_run(), new_run()]
    for run_id, how in zip(runs, (gather, None), strict=True):
        with Recorder(store=store, run_id=run_id, gather=how) as recorder:
            recorder.update(np.arange(N), np.arange(N) / 7)
            recorder.end_epoch()
    assert files(store, runs[0]) == files(store, runs[1])


WORKER = """
import sys
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler
from actiontrack.recorder import Recorder
from actiontrack.recorder.torch import IndexedDataset, gather
from actiontrack.store import Store

uri, run_id, n, size = sys.argv[1:]
dist.init_process_group("gloo")
losses = torch.arange(int(n), dtype=torch.float32) / 7
data = IndexedDataset(torch.utils.data.TensorDataset(losses, torch.arange(int(n)) % 3))
sampler = DistributedSampler(data, shuffle=True, seed=3)
loader = DataLoader(data, batch_size=int(size), sampler=sampler)
store = Store(uri) if dist.get_rank() == 0 else None
with Recorder(store=store, run_id=run_id, gather=gather) as recorder:
    for epoch in (1, 2, 3):
        sampler.set_epoch(epoch)
        for ids, values, labels in loader:
            recorder.update(ids, values * epoch + 0.125, labels=labels)
        summary = recorder.end_epoch()
        assert (summary is None) == (dist.get_rank() != 0)
print(recorder.synced)
dist.destroy_process_group()
"""


@pytest.mark.parametrize(("n", "batch_size"), [(13, 4), (7, 1), (3, 8)])
def test_two_processes_record_what_one_process_records(
    in_two_processes, store, new_run, n, batch_size
):
    both, alone = new_run(), new_run()
    assert in_two_processes(WORKER, store.tracking_uri, both, n, batch_size) == ["True\n"] * 2
    losses = np.arange(n, dtype=np.float32) / np.float32(7)
    with Recorder(store=store, run_id=alone) as recorder:
        for epoch in (1, 2, 3):
            recorder.update(np.arange(n), losses * epoch + 0.125, labels=np.arange(n) % 3)
            recorder.end_epoch()
    assert files(store, both) == files(store, alone)
    steps = steps_of(store.open_record(both))
    assert [step.n_duplicates for step in steps] == [n % 2] * 3
    assert [step.n_seen for step in steps] == [n] * 3


def test_the_gathered_record_is_plain_json(store, new_run):
    run_id = new_run()
    with Recorder(store=store, run_id=run_id, gather=gather) as recorder:
        recorder.update(torch.arange(N), torch.arange(N) / 7)
        recorder.end_epoch()
    path = store.open_record(run_id).fetch("manifest.json")
    assert json.loads(path.read_text())["totals"]["n_duplicates"] == 0


def test_updates_read_nothing_from_the_device(store, run_id):
    """On the device "meta" there is nothing to read: what waits for values fails there."""
    with Recorder(run_id=run_id, store=store) as recorder:
        for start in range(0, 2000, 400):  # enough logits that some are measured on the way
            logits = torch.empty((400, 100), device="meta")
            labels = torch.empty(400, dtype=torch.int64, device="meta")
            recorder.update(np.arange(start, start + 400), logits=logits, labels=labels)
        recorder.discard_epoch()
    with pytest.raises(RuntimeError, match="meta"):
        torch.empty(1, device="meta").item()
