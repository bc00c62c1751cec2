"""The callback, and how autologging attaches it."""

from actiontrack.recorder.autolog import QuietTracking
from actiontrack.recorder.probe import ArrayProbe, default_options


class ActionTrackCallback(ArrayProbe):
    """Evaluates the same samples after each epoch. Use it as a context manager around `fit`."""

    def __init__(self, inputs, labels, **options):
        super().__init__(labels, **options)
        self.inputs = inputs

    def after_epoch(self, model, epoch):
        """Record the epoch; looplet calls it."""
        if epoch == 1:
            self.begin(**default_options("logits"))
        self.record(model.logits(self.inputs), "logits", step=epoch)


class QuietCallback(QuietTracking, ActionTrackCallback, hooks=("after_epoch",)):
    """The same for autologging: what it raises is a warning, and ends the recording."""


def attach(training):
    """Record the validation data, or else the training data, unless the user does already."""
    arguments = training.arguments
    callbacks = list(arguments.get("callbacks", ()))
    if any(isinstance(other, ActionTrackCallback) for other in callbacks):
        return
    split, chosen, data = "train", "inputs", (arguments["inputs"], arguments["labels"])
    if arguments.get("validation") is not None:
        split, chosen, data = "validation", "validation", arguments["validation"]
    callback = QuietCallback(*data, **{"split": split} | training.options)
    callback.chosen, callback.positions = chosen, "ids" not in training.options
    training.add(callback)
    arguments["callbacks"] = [*callbacks, callback]
