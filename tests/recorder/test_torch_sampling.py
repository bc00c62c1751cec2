"""Which samples a loader visits, against what the loader itself gives."""

import random
from itertools import chain

import numpy as np
import pytest
import torch
from helpers import message
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from actiontrack.errors import ParameterError
from actiontrack.recorder.torch import IndexedDataset
from actiontrack.recorder.torch_probe import first_batch, indexed_loader
from actiontrack.recorder.torch_sampling import (
    same_samples,
    samples_of,
    unchanged_randomness,
    visits_of,
)

DATA = TensorDataset(torch.arange(100, 120))


class Odd(Sampler):
    """Of a class that nobody knows."""

    def __iter__(self):
        return iter(range(1, 20, 2))


class Shuffled(Sampler):
    """Draws its order from the global generators."""

    def __len__(self):
        return 6

    def __iter__(self):
        order = [3, 4, 5, 6, 7, 8]
        random.shuffle(order)
        return iter(torch.tensor(order)[torch.randperm(6)])


class ByLength(Sampler):
    """Batches of its own, in random order."""

    def __iter__(self):
        batches = [[0, 2, 4], [1, 3], [17, 18, 19]]
        random.shuffle(batches)
        return iter(batches)


LOADERS = {
    "all": lambda: DataLoader(DATA, 6),
    "shuffled": lambda: DataLoader(DATA, 6, shuffle=True),
    "subset": lambda: DataLoader(DATA, 6, sampler=SubsetRandomSampler([9, 3, 5])),
    "tensor": lambda: DataLoader(DATA, 6, sampler=SubsetRandomSampler(torch.tensor([9, 3]))),
    "list": lambda: DataLoader(DATA, 6, sampler=[7, 8, 9]),
    "odd": lambda: DataLoader(DATA, 6, sampler=Odd()),
    "random order": lambda: DataLoader(DATA, 6, sampler=Shuffled()),
    "drop_last": lambda: DataLoader(DATA, 6, drop_last=True),
    "drop_last of a subset": lambda: DataLoader(DATA, 4, sampler=Odd(), drop_last=True),
    "batch_sampler": lambda: DataLoader(
        DATA, batch_sampler=BatchSampler(range(5, 12), 3, drop_last=False)
    ),
    "batches of one's own": lambda: DataLoader(DATA, batch_sampler=ByLength()),
    "list of batches": lambda: DataLoader(DATA, batch_sampler=[[1, 2], [5, 6, 7]]),
    "batches by the sampler": lambda: DataLoader(
        DATA, sampler=BatchSampler(range(5, 12), 3, drop_last=False), batch_size=None
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_samples_are_those_that_the_loader_visits(name):
    loader = LOADERS[name]()
    visited = sorted(torch.cat([batch[0] for batch in loader]).tolist())
    ids, values = zip(*indexed_loader(LOADERS[name]()), strict=True)
    recorded = dict(
        zip(
            chain.from_iterable(ids),
            torch.cat([batch[0] for batch in values]).tolist(),
            strict=True,
        )
    )
    assert sorted(recorded.values()) == visited
    assert all(value == index + 100 for index, value in recorded.items())


def test_a_shuffled_loader_that_drops_its_last_batch_may_visit_all():
    assert len(visits_of(DataLoader(DATA, 6, shuffle=True, drop_last=True)).indices) == 20


def test_of_a_weighted_sampler_the_samples_that_it_can_draw_count():
    weights = [0.0] * 15 + [0.5, 0.0, 1, 1, 1]
    loader = DataLoader(DATA, 4, sampler=WeightedRandomSampler(weights, 50))
    assert list(visits_of(loader).indices) == [15, 17, 18, 19]


def test_the_share_of_a_process_stands_for_all_of_the_samples():
    loader = DataLoader(DATA, 4, sampler=DistributedSampler(DATA, 3, 1))
    assert list(visits_of(loader).indices) == list(range(20))


def test_a_sampler_inside_lightnings_own_counts():
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    sampler = DistributedSamplerWrapper(SubsetRandomSampler(range(4, 9)), 2, 0)
    assert list(visits_of(DataLoader(DATA, 2, sampler=sampler)).indices) == [4, 5, 6, 7, 8]


def test_batches_stay_together():
    batches = [[1, 2, 5], [5, 6], [5]]
    ids = [ids for ids, _ in indexed_loader(DataLoader(DATA, batch_sampler=batches))]
    assert ids == [[1, 2, 5], [6]]


@pytest.mark.parametrize("kind", ["odd", "batches of one's own"])
def test_processes_share_the_samples(kind):
    loader = LOADERS[kind]()
    shares = [indexed_loader(loader, world_size=2, rank=rank) for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    ids = {index for share in shares for ids, _ in share for index in ids}
    assert ids == set(visits_of(loader).indices)


class Changing(Sampler):
    def __init__(self):
        self.turn = 0

    def __iter__(self):
        self.turn += 1
        return iter(range(self.turn))


class Endless(Sampler):
    def __iter__(self):
        while True:
            yield from range(3)


@pytest.mark.parametrize("kind", [Changing, Endless])
def test_a_sampler_without_fixed_samples_is_refused(kind):
    text = (
        "data: must have a sampler that visits the same samples in each pass, got "
        f"{kind.__name__!r}. Pass the dataset, or a Subset of the samples to record."
    )
    with pytest.raises(ParameterError, match=message(text)):
        indexed_loader(DataLoader(DATA, sampler=kind()))


def test_a_sampler_that_can_not_be_copied_is_refused():
    text = "data: must have a sampler that can be copied, to see what it visits, got 'generator'. "
    with pytest.raises(ParameterError, match=message(text)[:-1]):
        indexed_loader(DataLoader(DATA, sampler=(index for index in range(3))))


def test_positions_that_are_no_numbers_are_refused():
    text = (
        "data: must have a sampler that gives positions in the dataset, got '(0, 32) from list'. "
        "Pass the dataset, or a Subset of the samples to record."
    )
    with pytest.raises(ParameterError, match=message(text)):
        indexed_loader(DataLoader(DATA, sampler=[(0, 32), (1, 64)]))


def test_a_loader_whose_items_are_batches_is_refused():
    text = (
        "data: must be a DataLoader that makes batches of single samples, got 'batch_size=None'. "
        "Pass the dataset of single samples, or a loader with a batch_size."
    )
    with pytest.raises(ParameterError, match=message(text)):
        indexed_loader(DataLoader(DATA, batch_size=None))


def test_looking_at_a_sampler_leaves_it_and_the_generators_as_they_were():
    sampler, own = Shuffled(), RandomSampler(DATA, generator=torch.Generator().manual_seed(3))
    before = random.getstate(), torch.get_rng_state(), own.generator.get_state()
    for watched in (sampler, own):
        visits_of(DataLoader(DATA, 4, sampler=watched))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(own.generator.get_state(), before[2])
    changing = Changing()
    with pytest.raises(ParameterError):
        visits_of(DataLoader(DATA, sampler=changing))
    assert changing.turn == 0


def test_random_states_of_every_kind_are_restored():
    state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    with unchanged_randomness():
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    assert random.getstate() == state[0]
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[2])


# ---------------------------------------------------------------- items and ids


INDEXED = IndexedDataset(DATA, [f"s{index:03}" for index in range(20)])


class Wrapper(Dataset):
    """A user's own dataset around another one, which hands on a part of its items."""

    def __init__(self, dataset, first=0):
        self.dataset, self.first = dataset, first

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index][self.first :]


def pairs(dataset):
    samples = samples_of(dataset)
    return [
        (str(sample_id), int(item[0]))
        for sample_id, item in (samples[index] for index in range(len(dataset)))
    ]


PART = [(f"s{index:03}", index + 100) for index in range(5, 8)]


@pytest.mark.parametrize(
    "dataset",
    [
        Subset(INDEXED, range(5, 8)),
        Subset(Subset(INDEXED, range(3, 12)), [2, 3, 4]),
        Subset(INDEXED, torch.tensor([5, 6, 7])),
        IndexedDataset(Subset(DATA, range(5, 8)), ["s005", "s006", "s007"]),
        IndexedDataset(Subset(INDEXED, range(5, 8)), np.array(["s005", "s006", "s007"])),
        ConcatDataset([Subset(INDEXED, [5]), Subset(INDEXED, [6, 7])]),
        Subset(ConcatDataset([INDEXED, IndexedDataset(DATA, range(20))][:1]), [5, 6, 7]),
        Subset(Wrapper(INDEXED), [5, 6, 7]),
        Wrapper(Subset(INDEXED, [5, 6, 7])),
    ],
    ids=range(9),
)
def test_ids_of_an_indexed_dataset_are_found_below_others(dataset):
    assert pairs(dataset) == PART


def test_a_wrapper_that_takes_the_ids_away_has_positions():
    assert pairs(Wrapper(Subset(INDEXED, [5, 6]), first=1)) == [("0", 105), ("1", 106)]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_ids_that_are_integers_of_numpy_are_found_below_a_wrapper(dtype):
    dataset = Wrapper(IndexedDataset(DATA, np.arange(40, 60).astype(dtype)))
    assert pairs(dataset)[:3] == [("40", 100), ("41", 101), ("42", 102)]


def test_a_wrapper_of_inputs_that_are_numbers_keeps_them():
    class Numbers(Dataset):
        def __init__(self):
            self.dataset = IndexedDataset(DATA, range(500, 520))

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return 7 + index, 0

    assert pairs(Numbers()) == [("0", 7), ("1", 8), ("2", 9)]


def test_parts_of_which_some_have_ids_are_refused():
    text = r"^data: must have ids in every part of a ConcatDataset, or in none, got \['Indexed"
    with pytest.raises(ParameterError, match=text):
        samples_of(ConcatDataset([INDEXED, DATA]))


def test_repeated_ids_are_refused_before_anything_is_loaded():
    text = (
        "ids: must be those of one sample each, got '20 repeated ones, the first s000'. "
        "Give each sample of the record its own id."
    )
    with pytest.raises(ParameterError, match=message(text)):
        indexed_loader(ConcatDataset([INDEXED, INDEXED]))
    assert len(indexed_loader(Subset(ConcatDataset([INDEXED, INDEXED]), [1, 22])).dataset) == 2


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(ParameterError, match=r"^data: must be a map-style dataset or a DataLoader"):
        visits_of(DataLoader(Stream()))


def same(one, other):
    return same_samples(visits_of(one), visits_of(other))


def test_the_same_samples_are_recognised_below_subsets_and_ids():
    part = DataLoader(DATA, 4, sampler=SubsetRandomSampler(range(5, 12)))
    assert same(Subset(INDEXED, range(5, 12)[::-1]), part)
    assert not same(Subset(INDEXED, range(5, 13)), part)
    assert not same(Subset(TensorDataset(*DATA.tensors), range(5, 12)), part)


# ---------------------------------------------------------------- batches


def started(worker):
    torch.utils.data.get_worker_info().dataset.samples.items.started = worker


class FromWorkers(Dataset):
    """Items that can be had in a worker which was prepared for them."""

    started = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        assert self.started is not None
        return index, 0


def test_workers_are_prepared_as_those_of_the_loader():
    loader = indexed_loader(DataLoader(FromWorkers(), 2, num_workers=1, worker_init_fn=started))
    assert first_batch(loader)[0] == [0, 1]
    assert [ids for ids, _ in loader] == [[0, 1], [2, 3]]


def test_a_loader_without_samples_has_no_first_batch():
    assert first_batch(indexed_loader(Subset(DATA, []))) is None
