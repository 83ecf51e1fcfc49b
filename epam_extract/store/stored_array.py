"""An array of a feature file that is read when it is indexed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from .h5_read import BLOCK_BYTES, block_slices
from .indexing import is_basic

if TYPE_CHECKING:
    from .feature_file import FeatureFile


class StoredArray(NDArrayOperatorsMixin):
    """An array in a feature file: indexing reads what is selected and nothing else.

    ``array[10]``, ``array[2:8, ..., 0]`` and ``array[[1, 5]]`` are numpy arrays of the stored
    dtype. An index may hold numbers, slices, ``...`` and ``None`` as in numpy, and first a list of
    rows or a bool for each row. Anything else (``np.asarray(array)``, ``array * 2``,
    ``array.mean(0)``, other ways to index) reads the whole array each time.

    Raises when it is read:
        IndexError: the index is out of bounds.
        KeyError: the video has been removed from the file.
        StoreError: it is damaged.
    """

    def __init__(self, file: FeatureFile, video_id: str, name: str) -> None:
        self._file, self._video_id, self.name = file, video_id, name
        file.array_info(video_id, name)

    def __repr__(self) -> str:
        return f"StoredArray({self._video_id!r}, {self.name!r}: {self.shape}, {self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its length along each axis."""
        return self._file.array_info(self._video_id, self.name).shape

    @property
    def dtype(self) -> np.dtype:
        """The stored dtype."""
        return self._file.array_info(self._video_id, self.name).dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        parts = key if isinstance(key, tuple) else (key,)
        if all(map(is_basic, parts)):
            return self._file.read(self._video_id, self.name, key)
        if np.ndim(parts[0]) == 1 and all(map(is_basic, parts[1:])):
            return self._rows(np.asarray(parts[0]), parts[1:])
        return np.asarray(self)[key]

    def _rows(self, rows: np.ndarray, rest: tuple[object, ...]) -> np.ndarray:
        """Some rows in any order: in one read if they lie close together."""
        chosen = np.arange(len(self))[rows if rows.size else rows.astype(np.intp)]
        low, high = (chosen.min(), chosen.max() + 1) if len(chosen) else (0, 0)
        if (high - low) * self.nbytes <= BLOCK_BYTES * len(self):
            return self[(slice(low, high), *rest)][chosen - low]
        return np.stack([self[(row, *rest)] for row in chosen])

    def __iter__(self) -> Iterator[np.ndarray]:
        step = max(1, BLOCK_BYTES * len(self) // max(self.nbytes, 1))
        for start in range(0, len(self), step):
            yield from self[start : start + step]

    def blocks(self) -> Iterator[np.ndarray]:
        """All of it in C order, in blocks of bounded size."""
        for span in block_slices(self):
            yield self[span]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a stored array has to be read: it cannot be converted without a copy")
        whole = self[...]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: object, **options: Any
    ) -> object:
        whole = (np.asarray(x) if isinstance(x, StoredArray) else x for x in inputs)
        return getattr(ufunc, method)(*whole, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"a stored array has no attribute {name!r}")
        whole = self[...]
        whole.flags.writeable = False  # writes to it would be lost
        return getattr(whole, name)
