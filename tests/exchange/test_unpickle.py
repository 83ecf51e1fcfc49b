"""Pickles are read without running code: what is allowed loads, everything else is refused."""

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epam_extract.errors import KeypointsError
from epam_extract.exchange.unpickle import load_pickle


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


CONTENT: dict[str, Any] = {
    "f16": np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3),
    "big": np.arange(4, dtype=">i2"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "turned": np.arange(24, dtype=np.int32).reshape(2, 3, 4).transpose(2, 0, 1),
    "view": np.arange(10)[::3],
    "empty": np.zeros((0, 5, 17, 2), np.float32),
    "flags": np.array([True, False]),
    "names": np.array(["a", "bcd"]),
    "scalar": np.float32(0.25),
    "int": np.int64(-3),
    "bool": np.bool_(True),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_scalars_of_every_protocol_come_back_equal(
    tmp_path: Path, protocol: int
) -> None:
    plain = {"bytes": b"\xff\x00", "text": "é", "more": collections.OrderedDict(a=(1, [2.5, None]))}
    path = write(tmp_path / "x.pkl", {**CONTENT, **plain}, protocol)
    found, theirs = load_pickle(path), pickle.loads(path.read_bytes())
    assert {name: found[name] for name in plain} == plain
    for name, value in CONTENT.items():
        assert np.asarray(found[name]).dtype == np.asarray(theirs[name]).dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_both_names_of_numpys_core_are_known(tmp_path: Path) -> None:
    ours = b"numpy._core." if b"numpy._core." in pickle.dumps(np.zeros(3), 2) else b"numpy.core."
    other = b"numpy.core." if ours == b"numpy._core." else b"numpy._core."
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(np.arange(3.0), 2).replace(ours, other))  # names end at a newline
    np.testing.assert_array_equal(load_pickle(path), [0, 1, 2])


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


def by_name(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls module.name(argument), whether it exists here or not."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy.testing._private.utils", "runstring"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("os", "system"),
        ("posix", "system"),
        ("_codecs", "decode"),
        ("collections", "namedtuple"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy", "dtype.__reduce__"),
    ],
)
def test_a_name_that_is_not_on_the_list_is_refused_and_named(
    tmp_path: Path, module: str, name: str
) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(by_name(module, name, "1"))
    with pytest.raises(KeypointsError, match=rf"asks for {module}.{name}, which could run code"):
        load_pickle(path)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = write(tmp_path / "x.pkl", {"annotations": [Calls(os.mkdir, str(mark))]})
    with pytest.raises(KeypointsError, match=r"asks for \w+\.mkdir"):
        load_pickle(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the same bytes do run elsewhere
    assert mark.is_dir()


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, "x"], object),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], "datetime64[D]"),
    ],
    ids=["objects", "records", "dates"],
)
def test_arrays_of_anything_but_numbers_and_strings_are_refused(
    tmp_path: Path, array: np.ndarray
) -> None:
    with pytest.raises(KeypointsError, match="holds arrays of"):
        load_pickle(write(tmp_path / "x.pkl", array))


def test_an_array_can_neither_be_called_into_being_nor_lie_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"cnumpy\nndarray\n(I1000000000000\nVO\ntR.")
    with pytest.raises(KeypointsError, match=r"x\.pkl"):
        load_pickle(path)
    whole = pickle.dumps(np.arange(4.0), 2)
    path.write_bytes(whole.replace(b"K\x04\x85", b"K\x09\x85"))
    assert path.read_bytes() != whole
    with pytest.raises(KeypointsError, match=r"x\.pkl"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"no pickle at all", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"}]s."],
)
def test_bytes_that_are_no_pickle_make_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(KeypointsError) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_cut_anywhere_makes_one_sentence(tmp_path: Path) -> None:
    whole = pickle.dumps({"annotations": [{"keypoint": np.zeros((1, 2, 17, 2), np.float16)}]})
    path = tmp_path / "x.pkl"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(KeypointsError):
            load_pickle(path)
