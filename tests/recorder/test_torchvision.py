"""torchvision's detectors in a loop: what is recorded, and that training knows nothing of it."""

import contextlib
import copy
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detecting import NAMES, SIZES, Pictures, detector
from torch.utils.data import DataLoader, Subset

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.detector_losses import per_image
from actiontrack.recorder.detector_pass import as_lists, losses_alone, seed_of
from actiontrack.recorder.torchvision import DetectorProbe, RecordedDetector, batch_losses
from actiontrack.testing import AdapterTests, AdapterTraining

FASTER, RETINA, FCOS, SSDLITE = "faster_rcnn", "retinanet", "fcos", "ssd"

pytestmark = pytest.mark.slow


def alone(model, images, targets, rows):
    """Losses of images as one batch in a pass."""
    images, targets = ([part[row] for row in rows] for part in (images, targets))
    return losses_alone(model, images, targets, [seed_of(each["image_id"]) for each in targets])


# ---------------------------------------------------------------- the losses of a pass


@pytest.mark.parametrize("name", [FASTER, RETINA, FCOS, SSDLITE])
def test_an_image_has_the_same_losses_whatever_is_beside_it(name):
    model, batch = detector(name), Pictures(sizes=(*SIZES[:2], SIZES[0])).batch
    together = alone(model, *batch, range(5))
    for row in range(5):
        single = alone(model, *batch, [row])
        for part, values in single.components.items():
            torch.testing.assert_close(
                together.components[part][row], values[0], rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("name", [RETINA, FCOS, SSDLITE])
def test_a_loss_is_that_of_torchvision_for_the_image_alone_with_norms_in_evaluation(name):
    model, (images, targets) = detector(name), Pictures().batch
    model.transform.min_size = model.transform.min_size[-1:]
    taken = alone(model, images, targets, range(5))
    model.eval().training = True  # of the detector alone: its layers stay in evaluation mode
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        with torch.no_grad():
            expected = model([image], [target])
        for part, loss in expected.items():
            torch.testing.assert_close(taken.losses[part][row], loss, rtol=1e-5, atol=1e-6)


def test_a_pass_changes_neither_weights_nor_statistics_nor_modes_nor_random_states():
    model, batch = detector(FASTER), Pictures().batch
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), random.getstate()
    alone(model, *batch, range(5))
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()


def test_what_is_drawn_of_an_image_depends_on_its_seed_alone():
    # Enough proposals for a draw to matter.
    model = detector(FASTER, box_batch_size_per_image=8, rpn_batch_size_per_image=16)
    images, targets = Pictures(2).batch
    first, again, other = (
        losses_alone(model, images, targets, seeds).total for seeds in ([1, 2], [1, 2], [3, 2])
    )
    assert torch.equal(first, again)
    assert first[0] != other[0]
    assert seed_of("a") == seed_of("a") != seed_of("b")


# ---------------------------------------------------------------- the probe


@pytest.fixture
def options(store, run_id):
    """Of a recorder in the test's run."""
    return {"store": store, "run_id": run_id}


def test_a_probe_records_losses_counts_and_boxes_by_id(options, read):
    model, pictures = detector(FASTER), Pictures()
    loader = DataLoader(pictures, 3, shuffle=True, collate_fn=as_lists)
    with DetectorProbe(model, loader, class_names=NAMES, **options) as probe:
        assert probe.after_epoch().n_seen == 5
    record = read()
    history, expected = record.history(), alone(model, *pictures.batch, range(5))
    rows = [history.sample_ids.tolist().index(sample_id) for sample_id in pictures.ids]
    assert history.loss_name == "faster_rcnn"
    assert set(history.components) == set(expected.components)
    for name, values in expected.components.items():
        np.testing.assert_allclose(history.components[name][0, rows], values, rtol=1e-5, atol=1e-5)
    parts = sum(history.components[name] for name in expected.losses)
    np.testing.assert_allclose(history.losses, parts, rtol=1e-6)
    assert record.manifest.notes["loss_check"] == "agrees"

    truth = record.boxes[record.boxes["kind"] == "truth"]
    assert truth.groupby("sample_id").size().to_dict() == {
        target["image_id"]: len(target["boxes"]) for _, target in pictures if len(target["boxes"])
    }
    image, target = pictures[2]
    of_image = truth[truth["sample_id"] == target["image_id"]]
    np.testing.assert_allclose(of_image[["left", "top", "right", "bottom"]], target["boxes"])
    assert of_image["class"].tolist() == [NAMES[label] for label in target["labels"]]
    assert of_image[["height", "width"]].iloc[0].tolist() == list(image.shape[1:])
    assert (record.boxes["score"].dropna() >= 0.05).all()
    assert record.image_bytes(0).startswith(b"\x89PNG")


def test_recorded_components_rebuild_the_loss_of_any_batch(options, read):
    model, pictures = detector(SSDLITE), Pictures()
    with DetectorProbe(model, pictures, boxes=False, **options) as probe:
        probe.after_epoch()
    history, (images, targets) = read().history(), pictures.batch
    assert read().boxes is None
    chosen = [0, 1, 3]
    rows = [history.sample_ids.tolist().index(pictures.ids[row]) for row in chosen]
    rebuilt = batch_losses({name: part[0, rows] for name, part in history.components.items()})
    model.eval().training = True
    with torch.no_grad():
        expected = model([images[row] for row in chosen], [targets[row] for row in chosen])
    assert rebuilt == pytest.approx(
        {name: float(loss) for name, loss in expected.items()}, rel=1e-5
    )


def test_a_subset_and_other_names_of_ids_are_taken(options, read):
    pictures = Pictures()
    for _, target in pictures.items:
        target["name"] = f"picture {target.pop('image_id')}"
    probe = DetectorProbe(
        detector(SSDLITE), Subset(pictures, [3, 0]), id_key="name", boxes=False, **options
    )
    with probe:
        probe.after_epoch()
    assert read().history().sample_ids.tolist() == ["picture 40", "picture 70"]


@pytest.mark.parametrize("change", [
    lambda target: target.pop("image_id"),
    lambda target: target.update(image_id=torch.tensor([1, 2])),
])  # fmt: skip
def test_data_without_one_id_per_image_are_refused_before_training(change):
    pictures = Pictures(2)
    change(pictures.items[0][1])
    with pytest.raises(RecordingError, match=r"targets: (no )?'image_id'"):
        DetectorProbe(detector(SSDLITE), pictures)


def test_repeated_ids_are_refused(options):
    pictures = Pictures(3)
    pictures.items[2][1]["image_id"] = pictures.ids[0]
    probe = DetectorProbe(detector(SSDLITE), pictures, **options)
    with pytest.raises(RecordingError, match="repeated"), probe:
        probe.after_epoch()


@pytest.mark.parametrize(("items", "problem"), [
    ([torch.rand(3, 8, 8)], "batch: no images with a target each"),
    ([(torch.zeros(3, 8, 8, dtype=torch.uint8), {"image_id": 1})], "no floating-point tensor"),
    ([(torch.rand(3, 8, 8), {"image_id": 1})], "the model can't be evaluated on the first batch"),
])  # fmt: skip
def test_what_is_no_detection_is_refused_before_training(items, problem):
    with pytest.raises(RecordingError, match=problem):
        DetectorProbe(detector(SSDLITE), items)


def test_names_of_classes_are_texts():
    with pytest.raises(ParameterError, match="class_names: must be the name of each label"):
        DetectorProbe(detector(SSDLITE), Pictures(1), class_names=(1, 2))


# ---------------------------------------------------------------- the training batches


def test_training_batches_are_recorded_by_id_and_boxes_with_them(options, read):
    pictures = Pictures()
    images, targets = pictures.batch
    for target in targets:
        target["image_id"] = torch.tensor([target["image_id"]])
    with RecordedDetector(detector(FCOS), class_names={1: "round"}, **options) as track:
        for _ in range(2):
            totals = [
                sum(float(loss.detach()) for loss in track(images[part], targets[part]).values())
                for part in (slice(3, 5), slice(3))
            ]
            track.end_epoch()
    record = read("train-inline")
    history = record.history()
    assert history.sample_ids.tolist() == sorted(pictures.ids)
    rows = [history.sample_ids.tolist().index(sample_id) for sample_id in pictures.ids]
    for total, part in zip(totals, (slice(3, 5), slice(3)), strict=True):
        parts = {name: values[1, rows[part]] for name, values in history.components.items()}
        assert sum(batch_losses(parts).values()) == pytest.approx(total, rel=1e-5)
    assert record.manifest.notes["loss_check"] == "agrees"
    assert set(record.boxes["class"]) == {"round", "2"}
    assert len(record.boxes) == sum(len(target["boxes"]) for target in targets)


def test_boxes_that_move_between_epochs_are_left_out(options, read):
    images, targets = Pictures(3).batch
    track = RecordedDetector(detector(SSDLITE), **options)
    for shift in (0, 1):
        moved = [
            target | {"boxes": target["boxes"] + (shift if row == 2 else 0)}
            for row, target in enumerate(targets)
        ]
        track(images, moved)
        track.end_epoch()
    with pytest.warns(UserWarning, match=r"left without boxes: those of 50 are others"):
        track.finish()
    assert read("train-inline").boxes is None


def test_a_call_in_evaluation_mode_is_the_models_own(options):
    model = detector(SSDLITE).eval()
    track = RecordedDetector(model, **options)
    with torch.no_grad():
        assert track([torch.rand(3, 64, 64)])[0].keys() == {"boxes", "labels", "scores"}
    assert track.recorder is None


@pytest.mark.parametrize(("change", "problem"), [
    (lambda _, targets: targets.pop(), "batch: no images with a target each"),
    (lambda images, _: images.append(images.pop().mul(255).byte()), "no floating-point tensor"),
    (lambda _, targets: targets[0].pop("image_id"), "targets: no 'image_id'"),
])  # fmt: skip
def test_a_training_batch_that_is_none_of_a_detector_is_refused(options, change, problem):
    images, targets = Pictures(3).batch
    change(images, targets)
    with pytest.raises(RecordingError, match=problem):
        RecordedDetector(detector(SSDLITE), **options)(images, targets)


def test_training_images_without_targets_are_refused(options):
    images, _ = Pictures(3).batch
    with pytest.raises(RecordingError, match="batch: no images with a target each"):
        RecordedDetector(detector(SSDLITE), **options)(images)


def test_a_batch_of_one_is_refused_where_it_cannot_be_normalised(options):
    images, targets = Pictures(1).batch
    with pytest.raises(RecordingError) as caught:
        RecordedDetector(detector(SSDLITE), **options)(images, targets)
    assert str(caught.value) == (
        "images: a batch of one leaves one value per channel to batch normalisation, as in the "
        "last maps of SSDlite. Leave it out: DataLoader(drop_last=True)."
    )


def test_an_epoch_may_be_dropped_and_begun_again(options, read):
    images, targets = Pictures(3).batch
    with RecordedDetector(detector(SSDLITE), **options) as track:
        track(images[:2], targets[:2])
        track.discard_epoch()
        track(images, targets)
        assert track.end_epoch().n_seen == 3
    assert len(read("train-inline").boxes) == sum(len(target["boxes"]) for target in targets)


def test_an_image_that_is_visited_twice_has_its_boxes_once(options, read):
    images, targets = Pictures(3).batch
    with RecordedDetector(detector(SSDLITE), duplicates="first", **options) as track:
        track(images, targets)
        track(images[:2], targets[:2])
        track.end_epoch()
    assert len(read("train-inline").boxes) == sum(len(target["boxes"]) for target in targets)


def test_a_record_is_resumed(options, read):
    images, targets = Pictures(3).batch
    for resume in (False, True):
        track = RecordedDetector(detector(SSDLITE), resume=resume, boxes=False, **options)
        with track:
            track(images, targets)
            track.end_epoch()
    assert read("train-inline").history().losses.shape == (2, 3)


def test_a_loss_that_parts_do_not_add_up_to_marks_the_record(options, read, caplog):
    model = detector(SSDLITE)
    compute = model.compute_loss

    def doubled(targets, *rest):
        return {name: len(targets) * loss for name, loss in compute(targets, *rest).items()}

    model.compute_loss = doubled
    images, targets = Pictures(3).batch
    with RecordedDetector(model, boxes=False, **options) as track:
        track(images, targets)
        track.end_epoch()
    assert read("train-inline").manifest.notes["loss_check"].startswith("differs at step 1")


def trained(model, pictures, *, recorded=None, probe=None):
    """Two epochs of training, one image per batch; losses that the model returns."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images, targets = pictures.batch
    losses = []
    for _ in range(2):
        epoch = []
        for row in torch.randperm(len(images)).tolist():
            parts = (recorded or model)(images[row : row + 1], targets[row : row + 1])
            loss = sum(parts.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch.append((targets[row]["image_id"], float(loss.detach())))
        losses.append([loss for _, loss in sorted(epoch)])
        if probe is not None:
            probe.after_epoch()
        if recorded is not None:
            recorded.end_epoch()
        yield losses


class OfDetectors(AdapterTests):
    """Sizes, and of a Faster R-CNN proposals, are drawn in every step."""

    def train(self, options):
        return self._train(options)

    def train_until_error(self, options):
        self._train(options, n_epochs=1)
        raise RuntimeError("the power went")

    def _train(self, options, n_epochs=2):
        model, pictures = detector(self.family), Pictures(3)
        with contextlib.ExitStack() as stack:
            track = None if options is None else self.track(model, pictures, options)
            if track is not None:
                stack.callback(track.close)
            steps = trained(model, pictures, **{self.role: track})
            losses = [self.losses(model, pictures, step[-1]) for step in islice(steps, n_epochs)]
            if track is not None and n_epochs > 1:
                track.finish()
        weights = [weights.detach().numpy() for weights in model.state_dict().values()]
        return AdapterTraining(ids=sorted(pictures.ids), losses=losses, weights=weights)


class TestInline(OfDetectors):
    family, role = FASTER, "recorded"

    def track(self, model, pictures, options):
        assert len(pictures) == 3
        return RecordedDetector(model, split="test", **options)

    def losses(self, model, pictures, returned):  # noqa: ARG002
        """What the model has returned for each image, one at a time."""
        return returned


class TestProbe(OfDetectors):
    family, role = FCOS, "probe"

    def track(self, model, pictures, options):
        return DetectorProbe(model, pictures, batch_size=2, **options)

    def losses(self, model, pictures, returned):  # noqa: ARG002
        """What a copy of the model returns for each image, its layers in evaluation mode."""
        twin = copy.deepcopy(model).eval()
        twin.training = True
        twin.transform.min_size = twin.transform.min_size[-1:]
        by_id = sorted(pictures.items, key=lambda item: item[1]["image_id"])
        with torch.random.fork_rng(), torch.no_grad():
            return [sum(map(float, twin([image], [target]).values())) for image, target in by_id]


WORKER = """
import sys
sys.path.insert(0, sys.argv[3])
import torch
import torch.distributed as dist
from detecting import Pictures, detector
from actiontrack.recorder.torchvision import DetectorProbe, RecordedDetector
from actiontrack.store import Store

dist.init_process_group("gloo")
rank = dist.get_rank()
options = {"store": Store(sys.argv[1]) if rank == 0 else None, "run_id": sys.argv[2]}
model, pictures = detector("ssd"), Pictures(4)
parallel = torch.nn.parallel.DistributedDataParallel(model)
probe = DetectorProbe(parallel, Pictures(5), batch_size=2, **options)
track = RecordedDetector(parallel, **options)
images, targets = (part[rank::2] for part in pictures.batch)
with probe, track:
    sum(track(images, targets).values()).backward()
    track.end_epoch()
    probe.after_epoch()
print(track.recorder.synced and probe.recorder.synced)
dist.destroy_process_group()
"""


def test_two_processes_make_one_record_of_each_kind(in_two_processes, store, run_id, read):
    printed = in_two_processes(WORKER, store.tracking_uri, run_id, Path(__file__).parent)
    assert printed == ["True\n"] * 2
    inline, probe = read("train-inline"), read("test-probe")
    assert inline.history().sample_ids.tolist() == [40, 50, 60, 70]
    assert probe.history().sample_ids.tolist() == [30, 40, 50, 60, 70]
    model, pictures = detector(SSDLITE), Pictures()
    n_objects = {target["image_id"]: len(target["boxes"]) for _, target in pictures}
    for record, ids in ((inline, [40, 50, 70]), (probe, [30, 40, 50, 70])):
        truth = record.boxes[record.boxes["kind"] == "truth"]
        assert truth.groupby("sample_id").size().to_dict() == {
            name: n_objects[name] for name in ids
        }
    images, targets = pictures.batch
    with per_image(model) as taken:
        model(images[0:4:2], targets[0:4:2])
    rows = [inline.history().sample_ids.tolist().index(name) for name in pictures.ids[0:4:2]]
    np.testing.assert_allclose(inline.history().losses[0, rows], taken[0].total, rtol=1e-5)
