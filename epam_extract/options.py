"""What describes an option: its help, the values it accepts, and how they are typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from .errors import ConfigError

WEIGHTS, POSE, WINDOWS = "Weights", "Pose", "Windows"
STORED, SPEED = "What is stored", "Speed"


@dataclass(frozen=True)
class Text:
    """How to type a value that is not plain text, a number or a path."""

    read: Callable[[str, str], object]
    """Text to value. Also takes the option as typed, ``--max-memory``, for its ConfigError."""
    write: Callable[[Any], str] = str
    """Value to text, for the default that ``--help`` shows."""


@dataclass(frozen=True)
class Option:
    """Describes a field of a config; annotates its type."""

    panel: str | None
    """Heading in ``--help``; None: "Options"."""
    help: str
    """``{choices}`` is replaced by the choices."""
    name: str = ""
    """Of the option, if it is not the field's: ``pose`` is typed as ``--pose``."""
    label: str = ""
    """Name in errors, if the field's says too little."""
    metavar: str | None = None
    variable: str | None = None
    """Environment variable that sets the option."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    """Only for rates, in frames per second."""
    text: Text | None = None

    @property
    def sentence(self) -> str:
        """The help with the choices filled in."""
        *others, last = self.choices or ("",)
        return self.help.replace("{choices}", f"{', '.join(others)} or {last}")

    def flag(self, field: str) -> str:
        """The option as typed: ``--det-every`` for ``det_every``."""
        return f"--{(self.name or field).replace('_', '-')}"

    def check(self, field: str, value: Any) -> None:
        """Raise ConfigError, naming ``field``, for a value that the option does not accept."""
        name = self.label or field
        for one in value if isinstance(value, tuple) else (value,):
            if self.choices and one not in self.choices:
                raise ConfigError(f"{name} must be one of {', '.join(self.choices)}, got {one!r}")
        if value is None or self.least is None:
            return
        if self.most is None and not value >= self.least:
            raise ConfigError(f"{name} must be at least {self.least}, got {value}")
        if self.most is not None and not self.least <= value <= self.most:  # also for NaN
            raise ConfigError(
                f"{name} must be {self.least} to {self.most} frames a second, got {value}"
            )


@cache  # type hints are parsed from text, for every config that is made
def options_of(config: type) -> dict[str, Option]:
    """The options of a config dataclass, by field."""
    hints = get_type_hints(config, include_extras=True)
    return {
        field.name: extra
        for field in fields(config)
        for extra in getattr(hints[field.name], "__metadata__", ())
        if isinstance(extra, Option)
    }


def flags_of(config: type) -> dict[str, str]:
    """Options as typed, by field, of a config dataclass and those nested in it."""
    flags = {name: option.flag(name) for name, option in options_of(config).items()}
    for kind in get_type_hints(config).values():
        if isinstance(kind, type) and is_dataclass(kind):
            flags |= flags_of(kind)
    return flags


def check_options(config: Any) -> None:
    """Check every field of a config dataclass by its option.

    Raises:
        ConfigError: a field has a value that its option does not accept.
    """
    for name, option in options_of(config.__class__).items():
        option.check(name, getattr(config, name))


def parse_bytes(option: str, text: str, *, like: str) -> int:
    """Bytes of a size such as ``8GB``, ``500 MB``, ``1.5g`` (powers of 1000) or ``1GiB`` (of 1024).

    Raises:
        ConfigError: ``text`` is not a size, or is 0; names ``option`` and the example ``like``.
    """
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?\s*", text, re.I)
    if found is None or not (size := float(found[1])):
        raise ConfigError(f"{option} {text}: expected a size such as {like} or 500MB")
    power = " kmgt".index(found[2].lower() or " ")
    base = 1024 if found[3] else 1000  # KiB, MiB, GiB
    return int(size * base**power)


def format_bytes(count: float) -> str:
    """``1.4 GB``: a number of bytes in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return (
                f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"


def in_list(text: str) -> tuple[str, ...]:
    """``"pooled, full"`` as a tuple, each name once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def size_like(example: str) -> Text:
    """Sizes in bytes, typed like ``example``: ``8GB``."""
    return Text(
        lambda option, text: parse_bytes(option, text, like=example),
        lambda size: format_bytes(size).replace(" ", ""),
    )


NAMES = Text(lambda _, text: in_list(text), ",".join)
