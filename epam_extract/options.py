"""What an option is: its words in ``--help``, the values it takes, and how these are typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from .errors import ConfigError

WEIGHTS, POSE, WINDOWS = "Weights", "Pose", "Windows"
STORED, SPEED = "What is stored", "Speed"


@dataclass(frozen=True)
class Text:
    """How a value that is no plain text, number or path is typed."""

    read: Callable[[str, str], object]
    """The value, given the option as typed (``--det-every``) and its text; ConfigError."""
    write: Callable[[Any], str] = str
    """The text of a value."""


@dataclass(frozen=True)
class Option:
    """What a config's field is to a user; it annotates the field's type."""

    panel: str | None
    """The heading in ``--help``; None: "Options"."""
    help: str
    """``{choices}`` in it stands for them."""
    name: str = ""
    """As an option, where that is not the field's name: ``pose`` is typed ``--pose``."""
    label: str = ""
    """In errors, where the field's name would say too little."""
    metavar: str | None = None
    variable: str | None = None
    """An environment variable that sets the option, for a whole machine."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    """Of a rate, in frames per second."""
    text: Text | None = None

    @property
    def sentence(self) -> str:
        """The help, with the choices in it."""
        *others, last = self.choices or ("",)
        return self.help.replace("{choices}", f"{', '.join(others)} or {last}")

    def flag(self, field: str) -> str:
        """As it is typed: ``--det-every``."""
        return f"--{(self.name or field).replace('_', '-')}"

    def check(self, field: str, value: Any) -> None:
        """Raise ConfigError, which names ``field``, for a value that is not one of these."""
        name = self.label or field
        for one in value if isinstance(value, tuple) else (value,):
            if self.choices and one not in self.choices:
                raise ConfigError(f"{name} must be one of {', '.join(self.choices)}, got {one!r}")
        if value is None or self.least is None:
            return
        if self.most is None and not value >= self.least:
            raise ConfigError(f"{name} must be at least {self.least}, got {value}")
        if self.most is not None and not self.least <= value <= self.most:  # NaN neither
            raise ConfigError(
                f"{name} must be {self.least} to {self.most} frames a second, got {value}"
            )


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
    """How the fields of a config dataclass, and of those in it, are typed."""
    flags = {name: option.flag(name) for name, option in options_of(config).items()}
    for kind in get_type_hints(config).values():
        if isinstance(kind, type) and is_dataclass(kind):
            flags |= flags_of(kind)
    return flags


def check_options(config: Any) -> None:
    """Check the fields of a config dataclass, each by itself.

    Raises:
        ConfigError: one has a value that it does not take.
    """
    for name, option in options_of(type(config)).items():
        option.check(name, getattr(config, name))


def to_bytes(option: str, text: str, *, like: str) -> int:
    """``8GB``, ``500 MB``, ``1.5g`` in bytes, in thousands; ``1GiB`` in 1024s.

    Raises ConfigError for anything else, and for nothing, which names ``option`` and an example.
    """
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?\s*", text, re.I)
    if found is None or not (size := float(found[1])):
        raise ConfigError(f"{option} {text}: expected a size such as {like} or 500MB")
    power = " kmgt".index(found[2].lower() or " ")
    base = 1024 if found[3] else 1000  # KiB, MiB, GiB
    return int(size * base**power)


def in_bytes(count: float) -> str:
    """``1.4 GB``: bytes as disks count them, in thousands."""
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
    """A size in bytes, typed as ``8GB``."""
    return Text(
        lambda option, text: to_bytes(option, text, like=example),
        lambda size: in_bytes(size).replace(" ", ""),
    )


NAMES = Text(lambda _, text: in_list(text), ",".join)
