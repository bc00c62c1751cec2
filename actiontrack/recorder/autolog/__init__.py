"""``actiontrack.autolog()``: every training of this process, in one line; adapters of others, too.

`autolog` turns it on and off, `adapters` lists what is installed. A package declares an `Adapter`
in the group ``actiontrack.adapters`` of its entry points, and gets a `Training` for each training.
"""

from actiontrack.recorder.autolog.adapter import Adapter
from actiontrack.recorder.autolog.installed import adapters
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.switch import autolog
from actiontrack.recorder.autolog.training import Training

__all__ = ["Adapter", "QuietTracking", "Training", "adapters", "autolog"]
