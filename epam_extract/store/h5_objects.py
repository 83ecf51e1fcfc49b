"""Open groups, arrays and attributes, but only those that really lie in the file.

An HDF5 file can point elsewhere: links to other files, arrays whose bytes lie in another file,
arrays assembled from other files. It can claim arrays larger than any memory, and a group can
contain itself. Our files do none of this, so a file that does is refused. All code that reads or
writes an object of the file gets it from here.
"""

from __future__ import annotations

import math
from collections.abc import Container

import h5py
import numpy as np
from h5py import h5a, h5d, h5i, h5l, h5o, h5s, h5t, h5z

MOST_PACKED = 1032  # deflate's limit; also holds for absent people, for whom no chunk is stored
LZF, BLOSC2 = 32000, 32026  # ids registered with the HDF Group
OUR_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, LZF, BLOSC2}
TEXT = h5t.py_create(h5py.string_dtype())
IN_MEMORY = {
    np.int64: h5t.NATIVE_INT64,
    np.float64: h5t.NATIVE_DOUBLE,
    np.bool_: h5t.py_create(np.dtype(np.bool_), logical=True),
}
UNREAD = {
    np.int64: np.full(8, -(1 << 62) - 1),
    np.float64: np.full(8, -1.25e300),
    np.bool_: np.ones(8, np.bool_),
}
"""Arrays with room for all that 8 bytes can hold, filled with what no attribute of ours is."""
NUMBERS = {h5t.INTEGER: np.int64, h5t.FLOAT: np.float64, h5t.ENUM: np.bool_}


def child(folder: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """The member of a group with this name, which has no "/".

    Raises:
        KeyError: there is no such member.
        ValueError: it is a link to elsewhere.
    """
    key = name.encode()
    if not folder.id.links.exists(key):
        raise KeyError(f"{folder.name} has no {name!r}")
    _require_hard(folder.id.links.get_info(key).type, name)
    return _open(folder, key)


def children(folder: h5py.Group, *, but: Container[str] = ()) -> list[tuple[str, int, int]]:
    """Name, kind of link and file address of each member of a group; opens none.

    Names in ``but`` are left out.
    """
    links = folder.id.links
    keys: list[bytes] = []
    links.iterate(lambda key: keys.append(key))  # a bound method is refused
    found = []
    for key in keys:
        name = key.decode("utf-8", "surrogateescape")
        if name not in but:  # usually nothing is left of a video
            link = links.get_info(key)
            found.append((name, link.type, link.u))
    return found


def open_child(folder: h5py.Group, name: str, kind: int) -> h5py.Group | h5py.Dataset:
    """Open a member found by :func:`children`; raises ValueError if it is a link to elsewhere."""
    _require_hard(kind, name)
    return _open(folder, name.encode())


def _require_hard(kind: int, name: str) -> None:
    if kind != h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link to elsewhere")


def _open(folder: h5py.Group, key: bytes) -> h5py.Group | h5py.Dataset:
    opened = h5o.open(folder.id, key)
    if isinstance(opened, h5py.h5g.GroupID):
        return h5py.Group(opened)
    if isinstance(opened, h5d.DatasetID):
        return h5py.Dataset(opened)
    raise ValueError(f"{key.decode(errors='replace')} is neither a group nor an array")


def find(h5: h5py.File, path: str) -> h5py.Group | h5py.Dataset | None:
    """The object at a path from the root, None if there is none.

    Raises ValueError if the path leads through a link to elsewhere.
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
    """An array of a group, if its bytes lie in this file and are no more than the file can hold.

    Raises:
        KeyError: there is no such array.
        ValueError: it is not an array of ours.
    """
    array = child(folder, name)
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{name} is not an array")
    plan = array.id.get_create_plist()
    layout = plan.get_layout()
    if layout == h5d.VIRTUAL or plan.get_external_count():
        raise ValueError(f"the bytes of {name} lie outside this file")
    filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
    if not filters <= OUR_FILTERS:
        raise ValueError(f"{name} is stored with filters that we never use")
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
    """File offset of an array of :func:`find_array`, if its values lie there as numpy has them.

    None if only HDF5 can read it: it is chunked, filtered, or not written yet.
    """
    dtype, start = array.dtype, array.id.get_offset()  # None of chunks
    if start is None or dtype.kind not in "fiu" or array.id.get_type() != h5t.py_create(dtype):
        return None
    end = h5i.get_file_id(array.id).get_filesize()
    return start if start + array.nbytes <= end else None


def address(folder: h5py.Group, name: str) -> int:
    """File address of a member of a group: two names of one object have the same."""
    return folder.id.links.get_info(name.encode()).u


def is_second_name(h5: h5py.File, path: str) -> bool:
    """Whether a path ends in a link to elsewhere, or in one of several names of an object."""
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
    """A numeric attribute; 4 times as fast as ``attrs``, which ``info`` needs.

    Raises KeyError if it is missing, ValueError or TypeError if it is not such a number.
    """
    attribute = h5a.open(holder.id, name.encode())
    # HDF5 fills as many places as the attribute has values, whatever the length of the array, and
    # asking for its shape takes as long as reading it. A value takes a byte or more.
    values = UNREAD[dtype].copy()
    if attribute.get_storage_size() <= len(values):
        attribute.read(values, IN_MEMORY[dtype])
        if values[1] == UNREAD[dtype][1]:
            return values[0]
    raise _not_single(name)


def get_text(holder: h5py.Group | h5py.Dataset, name: str) -> str:
    """A text attribute; raises as :func:`get_attribute` does."""
    attribute = _single(holder, name)
    kind = attribute.get_type()
    if not (isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()):
        raise ValueError(f"the attribute {name} is not a text")  # reading it as one may crash HDF5
    value: np.ndarray = np.empty((), h5py.string_dtype())
    attribute.read(value, TEXT)
    return bytes(value[()]).decode("utf-8", "surrogateescape")


def get_attributes(holder: h5py.Group | h5py.Dataset) -> dict[str, object]:
    """All attributes as plain Python values; raises ValueError if one is no number or text."""
    values: dict[str, object] = {}
    for name in attribute_names(holder):
        kind = _single(holder, name).get_type().get_class()
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
    # Reading an array, or an empty attribute, into a single value would overrun it.
    if attribute.shape or not attribute.get_storage_size():
        raise _not_single(name)
    return attribute


def _not_single(name: str) -> ValueError:
    return ValueError(f"the attribute {name} is not a single value")


def set_attribute(holder: h5py.Group | h5py.Dataset, name: str, value: object) -> None:
    """Set an attribute; fast for numbers."""
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
