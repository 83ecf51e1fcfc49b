"""Open what lies in the file itself, and no more of it than the file can hold.

An HDF5 file can send its reader elsewhere: links to other files, arrays whose bytes lie in another
file, arrays put together from other files. It can claim arrays larger than any memory, and a group
can lie below itself. Ours never do, so a file that does is refused: whatever reads or writes an
object of the file gets it from here.
"""

from __future__ import annotations

import math
from collections.abc import Container

import h5py
import numpy as np
from h5py import h5a, h5d, h5i, h5l, h5o, h5s, h5t, h5z

MOST_PACKED = 1032  # deflate's limit; also for the people who are absent, of whom nothing is stored
LZF, BLOSC2 = 32000, 32026  # ids registered with the HDF Group
OUR_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, LZF, BLOSC2}
TEXT = h5t.py_create(h5py.string_dtype())
IN_MEMORY = {
    np.int64: h5t.NATIVE_INT64,
    np.float64: h5t.NATIVE_DOUBLE,
    np.bool_: h5t.py_create(np.dtype(np.bool_), logical=True),
}
NUMBERS = {h5t.INTEGER: np.int64, h5t.FLOAT: np.float64, h5t.ENUM: np.bool_}


def child(folder: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """What a group holds under a name without "/".

    Raises:
        KeyError: it holds nothing of that name.
        ValueError: it is a link to elsewhere.
    """
    key = name.encode()
    if not folder.id.links.exists(key):
        raise KeyError(f"{folder.name} has no {name!r}")
    _require_hard(folder.id.links.get_info(key).type, name)
    return _open(folder, key)


def children(folder: h5py.Group, *, but: Container[str] = ()) -> list[tuple[str, int, int]]:
    """Name, kind of link and address in the file of what a group holds; opens nothing.

    Names in ``but`` are left out.
    """
    links = folder.id.links
    keys: list[bytes] = []
    links.iterate(lambda key: keys.append(key))  # a bound method is refused
    found = []
    for key in keys:
        name = key.decode("utf-8", "surrogateescape")
        if name not in but:  # only for the others: of a video there are none, mostly
            link = links.get_info(key)
            found.append((name, link.type, link.u))
    return found


def open_child(folder: h5py.Group, name: str, kind: int) -> h5py.Group | h5py.Dataset:
    """Open what :func:`children` has named; raises ValueError if it is a link to elsewhere."""
    _require_hard(kind, name)
    return _open(folder, name.encode())


def _require_hard(kind: int, name: str) -> None:
    if kind != h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link to elsewhere, and nothing of this file")


def _open(folder: h5py.Group, key: bytes) -> h5py.Group | h5py.Dataset:
    opened = h5o.open(folder.id, key)
    if isinstance(opened, h5py.h5g.GroupID):
        return h5py.Group(opened)
    if isinstance(opened, h5d.DatasetID):
        return h5py.Dataset(opened)
    raise ValueError(f"{key.decode(errors='replace')} is neither a group nor an array")


def find(h5: h5py.File, path: str) -> h5py.Group | h5py.Dataset | None:
    """What lies at a path of names from the root, None if nothing does.

    Raises ValueError if a link to elsewhere is in the way.
    """
    found: h5py.Group | h5py.Dataset = h5
    for name in path.split("/"):
        if not (name and isinstance(found, h5py.Group)):
            return None
        try:
            found = child(found, name)
        except (KeyError, UnicodeEncodeError):
            return None
    return found


def find_array(folder: h5py.Group, name: str) -> h5py.Dataset:
    """An array whose bytes lie in this file, and which is no larger than the file can hold.

    Raises:
        KeyError: there is none of that name.
        ValueError: it is no such array.
    """
    array = child(folder, name)
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{name} is no array")
    plan = array.id.get_create_plist()
    layout = plan.get_layout()
    if layout == h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"the bytes of {name} lie outside this file")
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if not filters <= OUR_FILTERS:
        raise ValueError(f"{name} is stored through filters that are none of ours")
    size = h5i.get_file_id(array.id).get_filesize()
    limit = size * MOST_PACKED if layout == h5d.CHUNKED else size
    shape, item = array.shape, array.dtype.itemsize
    shapes = [shape or ()]
    if layout == h5d.CHUNKED and math.prod(shapes[0]):
        shapes.append(plan.get_chunk())
    if shape is None or any(math.prod(lengths) * item > limit for lengths in shapes):
        raise ValueError(f"{name} claims {shape} values, more than the file can hold")
    return array


def data_offset(array: h5py.Dataset) -> int | None:
    """Where the bytes of an array of :func:`find_array` begin, if it is one run of numpy's numbers.

    None where only HDF5 can read it: in chunks, through filters, or not written yet.
    """
    dtype, start = array.dtype, array.id.get_offset()  # None of chunks
    if start is None or dtype.kind not in "fiu" or array.id.get_type() != h5t.py_create(dtype):
        return None
    end = h5i.get_file_id(array.id).get_filesize()
    return start if start + array.nbytes <= end else None


def address(folder: h5py.Group, name: str) -> int:
    """Where in the file something of a group lies: the same for two names of one thing."""
    return folder.id.links.get_info(name.encode()).u


def is_second_name(h5: h5py.File, path: str) -> bool:
    """Whether a path ends in a link to elsewhere, or in one of several names of a thing."""
    folder, _, name = path.rpartition("/")
    parent = find(h5, folder)
    key = name.encode()
    if not (isinstance(parent, h5py.Group) and parent.id.links.exists(key)):
        return False
    kind = parent.id.links.get_info(key).type
    return kind != h5l.TYPE_HARD or h5o.get_info(_open(parent, key).id).rc > 1


def get_attribute(
    holder: h5py.Group | h5py.Dataset, name: str, dtype: type = np.int64
) -> np.generic:
    """A number among the attributes; 7 times as fast as ``attrs``, which tells with 10000 videos.

    Raises KeyError if it is not there, ValueError or TypeError if it is no such number.
    """
    attribute = _single(holder, name)
    value: np.ndarray = np.empty((), dtype)
    attribute.read(value, IN_MEMORY[dtype])
    return value.reshape(1)[0]


def get_text(holder: h5py.Group | h5py.Dataset, name: str) -> str:
    """A text among the attributes; raises as :func:`get_attribute`."""
    attribute = _single(holder, name)
    kind = attribute.get_type()
    if not (isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()):
        raise ValueError(f"the attribute {name} is no text")  # HDF5 may crash on reading it as one
    value: np.ndarray = np.empty((), h5py.string_dtype())
    attribute.read(value, TEXT)
    return bytes(value[()]).decode("utf-8", "surrogateescape")


def get_attributes(holder: h5py.Group | h5py.Dataset) -> dict[str, object]:
    """All attributes as plain Python values; raises ValueError where one is no number or text."""
    values: dict[str, object] = {}
    for name in attribute_names(holder):
        kind = h5a.open(holder.id, name.encode()).get_type().get_class()
        if kind in NUMBERS:
            values[name] = get_attribute(holder, name, NUMBERS[kind]).item()
        elif kind == h5t.STRING:
            values[name] = get_text(holder, name)
        else:
            raise ValueError(f"the attribute {name} is neither a number nor a text")
    return values


def attribute_names(holder: h5py.Group | h5py.Dataset) -> list[str]:
    """Names of all attributes."""
    keys: list[bytes] = []
    h5a.iterate(holder.id, lambda key: keys.append(key))
    return [key.decode() for key in keys]


def _single(holder: h5py.Group | h5py.Dataset, name: str) -> h5a.AttrID:
    attribute = h5a.open(holder.id, name.encode())
    # An array has a shape, and what holds nothing no size: reading either would go past its end.
    if attribute.shape or not attribute.get_storage_size():
        raise ValueError(f"the attribute {name} is no single value")
    return attribute


def set_attribute(holder: h5py.Group | h5py.Dataset, name: str, value: object) -> None:
    """Set an attribute, fast where it is a number."""
    if isinstance(value, str):
        holder.attrs[name] = value
        return
    array, key = np.array(value), name.encode()
    if h5a.exists(holder.id, key):
        attribute = h5a.open(holder.id, key)
    else:
        kind = h5t.py_create(array.dtype, logical=True)
        attribute = h5a.create(holder.id, key, kind, h5s.create(h5s.SCALAR))
    attribute.write(array)
