"""Action scores of trainings with looplet. What autologging reads is here, and imports nothing."""

from actiontrack.recorder.autolog import Adapter

ADAPTER = Adapter(
    framework="looplet",
    distribution="actiontrack-looplet",  # looplet is in this package
    callback="actiontrack_looplet.recording:ActionTrackCallback",
    trainings={"looplet": ("Model.fit",)},
    attach="actiontrack_looplet.recording:attach",
)
