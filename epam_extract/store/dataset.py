"""The windows of a store as a PyTorch ``Dataset``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from ..errors import ConfigError, StoreError
from ..schema import TRACKS
from .feature_store import index_of

if TYPE_CHECKING:
    from .feature_store import FeatureStore

Item = dict[str, "torch.Tensor | Window"]
IN_MEMORY = 1 << 30  # bytes of features kept in memory; more are read as they are used


class Window(NamedTuple):
    """The window of an item. A batch has a list of them."""

    video: str
    """The video's id."""
    row: int
    """Which window of that video."""
    start: float
    centre: float
    end: float
    """Seconds."""


def _listed(windows: list[Window], *, collate_fn_map: object = None) -> list[Window]:
    return windows


# Not as tensors: each would pass from a worker through a connection of its own, which takes as long
# as the features do.
default_collate_fn_map[Window] = _listed


class WindowDataset(Dataset[Item]):
    """One item per window; made by :meth:`FeatureStore.dataset`.

    An item is a dict: each feature by its name, a tensor of the stored dtype without the leading
    axis (``rgb_pooled`` (432,) float32, ``rgb`` (432, 16, 7, 7) float16), and ``window``, a
    :class:`Window`. In a batch of ``DataLoader`` the tensors are stacked, and the windows a list.

    Up to 1 GiB of features is read once and kept in memory; more, such as full maps, is read window
    by window. Workers of a ``DataLoader``, forked or spawned, open the files themselves.

    Raises:
        ConfigError: an array does not have one row per window.
        KeyError: a video or an array is missing.
        StoreError: a file is damaged, or a video was replaced since the dataset was made.
    """

    def __init__(self, store: FeatureStore, features: Sequence[str], *, ids: Sequence[str]) -> None:
        for name in features:
            if name in TRACKS:
                raise ConfigError(f"{name}: has no row for each window, and cannot be in a dataset")
        self.store, self.features, self.ids = store, tuple(features), list(ids)
        videos = [store[video_id] for video_id in self.ids]
        self.index = index_of(videos)
        """(N,): ``video`` (a position in ``ids``), ``row``, ``start``, ``centre`` and ``end``."""
        size = sum(video[name].nbytes for video in videos for name in self.features)
        self._fits = size <= IN_MEMORY
        self._kept = self._read() if self._fits else None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}  # a spawned worker reads it again

    def __repr__(self) -> str:
        what = ", ".join(self.features)
        return f"WindowDataset({what}: {len(self)} windows of {len(self.ids)} videos)"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Item:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Item]:
        """Several items at once: ``DataLoader`` asks for a batch this way."""
        places = np.arange(len(self))[np.asarray(numbers, np.int64)]  # negative: from the end
        windows = [Window(self.ids[video], *rest) for video, *rest in self.index[places].tolist()]
        columns: dict[str, Sequence[torch.Tensor | Window]] = {}
        if self._fits:
            if self._kept is None:
                self._kept = self._read()
            for name, kept in self._kept.items():
                columns[name] = kept[places].unbind()
        else:
            for name in self.features:
                columns[name] = [
                    torch.as_tensor(self.store[window.video][name][window.row])
                    for window in windows
                ]
        columns["window"] = windows
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]

    def _read(self) -> dict[str, torch.Tensor]:
        """Each feature, over all windows."""
        kept = {}
        for name in self.features:
            parts = [self.store[video_id][name][:] for video_id in self.ids]
            whole = np.concatenate(parts) if parts else np.zeros(0, np.float32)
            if len(whole) != len(self):
                raise StoreError(
                    f"{self.store.name}: its videos were replaced since the dataset was made; make "
                    "it again"
                )
            kept[name] = torch.from_numpy(whole)
        return kept
