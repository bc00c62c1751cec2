"""The adapters of this package, as its entry points name them. Nothing of them is imported here."""

from actiontrack.recorder.autolog.adapter import Adapter

__all__ = [
    "CAUSAL_LM",
    "KERAS",
    "LIGHTGBM",
    "LIGHTNING",
    "SKLEARN",
    "TORCHVISION",
    "TRANSFORMERS",
    "TRL",
    "ULTRALYTICS",
    "XGBOOST",
]

_HERE, _ABOVE = "actiontrack.recorder.autolog", "actiontrack.recorder"

#: Causal language models under a Trainer of Transformers.
CAUSAL_LM = Adapter(framework="transformers", callback=f"{_ABOVE}.causal_lm:track_causal_lm")

#: Keras 3.
KERAS = Adapter(
    framework="keras",
    callback=f"{_ABOVE}.keras:ActionTrackCallback",
    trainings={"keras": ("Model.fit",)},
    attach=f"{_HERE}.keras:attach",
)

#: LightGBM.
LIGHTGBM = Adapter(
    framework="lightgbm",
    callback=f"{_ABOVE}.lightgbm:ActionTrackCallback",
    trainings={"lightgbm": ("engine.train", "train", "sklearn.train", "cv")},
    attach=f"{_HERE}.lightgbm:attach",
)

#: PyTorch Lightning, by either name.
LIGHTNING = Adapter(
    framework="lightning",
    callback=f"{_ABOVE}.lightning:ActionTrackCallback",
    trainings={"lightning.pytorch": ("Trainer.fit",), "pytorch_lightning": ("Trainer.fit",)},
    attach=f"{_HERE}.lightning:attach",
)

#: scikit-learn.
SKLEARN = Adapter(
    framework="sklearn",
    callback=f"{_ABOVE}.sklearn:ProbeRecorder",
    distribution="scikit-learn",
)

#: torchvision's detectors.
TORCHVISION = Adapter(framework="torchvision", callback=f"{_ABOVE}.torchvision:DetectorProbe")

#: The Trainer of Hugging Face Transformers.
TRANSFORMERS = Adapter(
    framework="transformers",
    callback=f"{_ABOVE}.transformers:ActionTrackCallback",
    trainings={"transformers.trainer": ("Trainer.train",)},
    attach=f"{_HERE}.transformers:attach",
)

#: The SFTTrainer of TRL.
TRL = Adapter(
    framework="trl",
    callback=f"{_ABOVE}.trl:track_sft",
    trainings={"trl.trainer.sft_trainer": ("SFTTrainer.train",)},
    attach=f"{_HERE}.trl:attach",
)

#: Ultralytics.
ULTRALYTICS = Adapter(
    framework="ultralytics",
    callback=f"{_ABOVE}.ultralytics:ActionTrackCallback",
    trainings={"ultralytics.engine.trainer": ("BaseTrainer.train",)},
    attach=f"{_HERE}.ultralytics:attach",
)

#: XGBoost.
XGBOOST = Adapter(
    framework="xgboost",
    callback=f"{_ABOVE}.xgboost:ActionTrackCallback",
    trainings={"xgboost": ("training.train", "train", "sklearn.train", "cv")},
    attach=f"{_HERE}.xgboost:attach",
)
