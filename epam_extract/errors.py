"""Every error epam_extract raises on purpose.

EpamExtractError
├── ConfigError        the options contradict each other, or name what is not there; nothing ran
├── CheckpointError    the weights do not fit the network
├── PoseModelError     a pose model cannot be had, or is of another kind
├── KeypointsError     a file of keypoints cannot be read, or is of another kind
├── VideoError         one video fails; it is recorded and the run goes on
│   ├── FetchError     it is elsewhere, and does not come
│   ├── ProbeError     it cannot be opened or has no frames
│   ├── DecodeError    it opens, but its frames cannot all be read
│   └── KeypointsFailed  the keypoints given for it do not fit it
├── StoreError         the output file cannot be written, resumed or read
│   ├── StoreLocked    another process is writing it
│   └── StoreMismatch  it was made with other options, weights or pose models
└── MachineError       disk full, out of memory, GPU lost: the run stops, what is committed stays

A message says what happened, what was expected, and what to do next. Checks
of :mod:`config` name its fields. Elsewhere a message may name an option as it is typed, such as
``--det-every``; in the library that is the config's field, ``det_every``, or a keyword of
``extract_features``.
"""

from __future__ import annotations


class EpamExtractError(Exception):
    """Base class: the CLI turns these, and only these, into a one-line message."""


class ConfigError(EpamExtractError):
    """The options contradict each other, or name what is not there; nothing was run."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields
        """Config fields that the message names; the command replaces them by options."""


class CheckpointError(EpamExtractError):
    """The checkpoint cannot be read, or its tensors do not match the network's."""


class PoseModelError(EpamExtractError):
    """A pose model cannot be downloaded or loaded, or it is of another kind."""


class KeypointsError(EpamExtractError):
    """A file of keypoints cannot be read, or holds other skeletons."""


class VideoError(EpamExtractError):
    """One video fails in some stage; the run records it and goes on."""

    stage = "video"


class FetchError(VideoError):
    """The video is elsewhere and cannot be fetched."""

    stage = "fetch"


class ProbeError(VideoError):
    """The file cannot be opened as a video, or it has no frames."""

    stage = "probe"


class DecodeError(VideoError):
    """The file opens, but its frames cannot all be read."""

    stage = "decode"


class KeypointsFailed(VideoError):
    """The keypoints given for the video are damaged, or do not fit it."""

    stage = "keypoints"


class StoreError(EpamExtractError):
    """The output file cannot be written, resumed or read."""


class StoreLocked(StoreError):
    """Another live process is writing the file."""


class StoreMismatch(StoreError):
    """The file was made with other options, weights or pose models than this run's."""


class MachineError(EpamExtractError):
    """The machine failed, not a video: the run stops and everything committed stays."""
