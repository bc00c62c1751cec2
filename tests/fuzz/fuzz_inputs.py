"""Targets of what users bring: parameters, annotations, images and tables."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
from fuzz_contract import BrokenContractError, png, spelt_words, words_of
from PIL import Image

from actiontrack.errors import ActionTrackError


class Parameters:
    """Command lines of the entry points of the MLflow project."""

    share = 390

    def __init__(self, _folder):
        from projects.experiments import (
            curriculum,
            curves,
            ensemble,
            label_noise,
            model_bias,
        )
        from projects.params import CompareParams, DemoParams, TrainParams, parse
        from projects.params.autoencoder import AutoencoderParams
        from projects.params.detection import DetectionParams
        from projects.params.segmentation import SegmentationParams

        self._parse = parse
        self._models = (
            TrainParams, CompareParams, DemoParams, AutoencoderParams, DetectionParams,
            SegmentationParams, curriculum.CurriculumParams, curves.CurvesParams,
            ensemble.EnsembleParams, label_noise.LabelNoiseParams, model_bias.ModelBiasParams,
        )  # fmt: skip
        names = sorted({f"--{name}" for each in self._models for name in each.model_fields})
        values = (
            "0", "1", "-1", "0.5", "1e400", "nan", "inf", "1_000", "true", "FALSE", "digits",
            "folder:",
            "voc:x", "masks:a,b", "masks:a", "test,train", "probe", "inline", "both", "epoch",
            "batch",
            "cnn3", "cnn3,resnet_v2", ",", "auto", "adam", "", "9" * 5000, "0x10", "１", "--", "=",
            "bf16", "paper", "smoke",
        )  # fmt: skip
        self.tokens = (*names, *values)

    def seeds(self):
        lines = (
            ["--epochs", "1"], ["--record", "test,train", "--mode", "both"], ["--seed", "-1"],
            ["--dataset", "folder:"], ["--learning_rate", "nan"], ["--help"],
        )  # fmt: skip
        return [
            bytes([place]) + spelt_words(each, self.tokens)
            for place in range(len(self._models))
            for each in lines
        ]

    def run(self, data):
        model = self._models[data[0] % len(self._models)] if data else self._models[0]
        words = words_of(data[1:], self.tokens)
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                self._parse(model, words)
            except SystemExit as ended:
                if ended.code != 0 or not {"--help", "-h"} & set(words):
                    raise BrokenContractError(f"{words}: exit code {ended.code}") from ended


class Annotations:
    """Boxes of an image as VOC's XML."""

    share = 330

    def __init__(self, folder):
        from projects.datasets.voc import read_annotation

        self._read, self._path = read_annotation, folder / "one.xml"

    def seeds(self):
        one = (
            "<annotation><size><width>20</width><height>10</height></size><object><name>dog</name>"
            "<difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9.5</xmax>"
            "<ymax>8</ymax></bndbox></object></annotation>"
        )
        bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'
        other = "<?xml version='1.0' encoding='utf-16'?><annotation/>"
        texts = (one, "<annotation/>", bomb, other, one.replace("9.5", "nan"))
        return [bytes([place]) + each.encode() for place in (0, 1) for each in texts]

    def run(self, data):
        self._path.write_bytes(data[1:])
        bad = "drop" if data[:1] and data[0] % 2 else "error"
        found = self._read(self._path, size=(20, 10), bad_boxes=bad)
        if not (found.boxes[:, :2] < found.boxes[:, 2:]).all():
            raise BrokenContractError(f"a box without a pixel: {found.boxes}")


class Images:
    """Image and mask files: the first byte says which, and its ending."""

    share = 20
    _endings = (".png", ".jpg", ".bmp", ".webp")

    def __init__(self, folder):
        from actiontrack.web.images import checked
        from projects.datasets.decode import decode_image
        from projects.datasets.masks import MaskSettings, open_masks

        self._checked, self._decode = checked, decode_image
        self._settings, self._open = MaskSettings, open_masks
        self._images, self._masks = folder / "images", folder / "masks"
        for each in (self._images, self._masks):
            each.mkdir()
            for name in ("a", "b"):
                (each / f"{name}.png").write_bytes(png(np.eye(8)))
        self._scratch = folder

    def seeds(self):
        rng, found = np.random.default_rng(0), []
        arrays = (rng.integers(0, 255, (8, 8, 3)), rng.integers(0, 2, (8, 8)))
        for place, kind in enumerate(("PNG", "JPEG", "BMP", "WEBP")):
            for array in arrays:
                target = io.BytesIO()
                Image.fromarray(np.asarray(array, np.uint8)).save(target, kind)
                found += [
                    bytes([2 * place]) + target.getvalue(),
                    bytes([2 * place + 1]) + target.getvalue(),
                ]
        for mode in ("P", "1", "I;16", "RGBA", "LA"):
            target = io.BytesIO()
            Image.fromarray(np.eye(8, dtype=np.uint8)).convert(mode).save(target, "PNG")
            found.append(b"\1" + target.getvalue())
        return found

    def run(self, data):
        kind = data[0] % 8 if data else 0
        path = self._scratch / f"one{self._endings[kind // 2]}"
        path.write_bytes(data[1:])
        with contextlib.suppress(ActionTrackError):
            self._checked(data[1:])
        if kind % 2 == 0:
            self._decode(path)
            return
        (self._masks / "a.png").write_bytes(data[1:])
        settings = self._settings(images=str(self._images), masks=str(self._masks))
        self._open(settings)


class Tables:
    """CSV files of projects: wrong labels, or the votes of FERPlus."""

    share = 20

    def __init__(self, folder):
        from projects.datasets.ferplus import EMOTIONS, VOTED, open_ferplus
        from projects.datasets.noisy_labels import read_noisy_labels

        self._noisy, self._ferplus, self._folder = read_noisy_labels, open_ferplus, folder
        self._source = SimpleNamespace(
            ids=np.arange(20), labels=np.zeros(20, np.int64), class_names=("cat", "dog", "NA")
        )
        usages = ("Training", "PrivateTest", "PublicTest")
        rows = [f"{usage},fer{place}.png,9,1,0,0,0,0,0,0,0,0" for place, usage in enumerate(usages)]
        self._votes = "\n".join([f"Usage,Image name,{','.join(VOTED)}", *rows, ""])
        pixels = " ".join(["7"] * 48 * 48)
        images = "\n".join(["emotion,pixels,Usage", *(f"0,{pixels},{each}" for each in usages), ""])
        (folder / "fer2013.csv").write_text(images)
        assert len(EMOTIONS) == 8

    def seeds(self):
        noisy = ("id,label\n17,dog\n3,cat\n", "id,label\n17,1\n", '"id","label"\n"1","NA"\n')
        return [b"\0" + each.encode() for each in noisy] + [b"\1" + self._votes.encode()]

    def run(self, data):
        if not data or data[0] % 2 == 0:
            path = self._folder / "noisy.csv"
            path.write_bytes(data[1:])
            labels = self._noisy(path, self._source)
            if labels.min() < 0 or labels.max() > 2:
                raise BrokenContractError(f"labels {labels}")
            return
        (self._folder / "fer2013new.csv").write_bytes(data[1:])
        for each in self._ferplus(self._folder, "majority"):
            each.read(np.arange(min(2, len(each.ids))))


class LabelFiles:
    """Labels in NumPy's and in PyTorch's format, old and new, one for each image."""

    share = 20

    def __init__(self, folder):
        from projects.datasets.label_files import read_label_sets

        self._read, self._folder = read_label_sets, folder

    def seeds(self):
        import torch

        labels = np.arange(6) % 3
        sets = {"people": labels, "names": ["cat", "dog"], "more": torch.tensor([1, 0, 2])}
        files = [io.BytesIO() for _ in range(3)]
        np.save(files[0], labels)
        torch.save(sets, files[1])
        torch.save(sets, files[2], _use_new_zipfile_serialization=False)
        return [bytes([place > 0]) + file.getvalue() for place, file in enumerate(files)]

    def run(self, data):
        path = self._folder / ("labels.pt" if data and data[0] % 2 else "labels.npy")
        path.write_bytes(data[1:])
        for labels in self._read(path).values():
            if labels.ndim != 1 or labels.dtype.kind not in "iuU":
                raise BrokenContractError(f"labels {labels}")
