"""What the callbacks of a Hugging Face Trainer share: a record that ends with the training."""

from typing import Any

from transformers import TrainerCallback

from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.transformers_data import is_inside
from actiontrack.store import Store

__all__ = ["TrainerTracking"]


class TrainerTracking(Tracking, TrainerCallback):
    """A callback with a recorder, which knows whether an epoch was trained on in full."""

    _began_inside = False

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note whether training goes on inside an epoch."""
        del args, control, kwargs
        self._began_inside = is_inside(state.epoch)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Finish the record."""
        del args, state, control, kwargs
        self.finish()

    def _is_begun_anew(self, args: Any) -> bool:
        """Whether this is the same training once more, with smaller batches: out of memory.

        What the record has of the epoch that failed is dropped.
        """
        run_id = self._options.get("run_id") or Store.active_run_id()
        if self.recorder is None or not (args.auto_find_batch_size and self._is_open(run_id)):
            return False
        self.recorder.discard_epoch()
        return True

    def _is_partial(self, state: Any) -> bool:
        """Whether some of the epoch that ends is not part of this training."""
        return self._began_inside or is_inside(state.epoch)
