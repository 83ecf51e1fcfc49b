"""Every option stands once: what the config's fields say is what is checked and how it is typed."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from epam_extract.config import (
    POSE_MODES,
    ExtractConfig,
    PoseConfig,
    WeightsConfig,
    WindowConfig,
)
from epam_extract.errors import ConfigError
from epam_extract.options import flags_of, options_of

CONFIGS = (WindowConfig, PoseConfig, WeightsConfig, ExtractConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_is_an_option_or_a_config(config: type) -> None:
    nested = {"windows", "pose", "weights"} if config is ExtractConfig else set()
    assert {field.name for field in fields(config)} - nested == set(options_of(config))


def test_every_help_names_its_choices() -> None:
    for config in CONFIGS:
        for name, option in options_of(config).items():
            assert all(choice in option.sentence for choice in option.choices), name
            assert "{" not in option.sentence and option.sentence.endswith("."), name


def test_no_two_options_are_typed_alike() -> None:
    flags = flags_of(ExtractConfig)
    assert len(set(flags.values())) == len(flags) == sum(len(options_of(c)) for c in CONFIGS)
    assert (flags["det_every"], flags["mode"], flags["file"]) == (
        "--det-every",
        "--pose",
        "--weights",
    )


def test_every_default_passes_its_own_check_and_is_read_as_it_is_written() -> None:
    for config in CONFIGS:
        for name, option in options_of(config).items():
            default = getattr(config, name)
            option.check(name, default)
            if option.text is not None and default is not None:
                assert option.text.read("--x", option.text.write(default)) == default


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowConfig(grid="dense"), "grid must be one of centered, valid, single, got 'd"),
        (lambda: WindowConfig(stride=0), "stride must be at least 1, got 0"),
        (lambda: PoseConfig(mode="big"), f"pose must be one of {', '.join(POSE_MODES)}, got 'big'"),
        (lambda: PoseConfig(det_score=float("nan")), "det_score must be at least 0.0, got nan"),
        (lambda: WeightsConfig(random_seed=-1), "random_seed must be at least 0, got -1"),
        (
            lambda: ExtractConfig(fps=float("nan")),
            "fps must be 0.01 to 1000 frames a second, got n",
        ),
        (lambda: ExtractConfig(features=("pooled", "x")), "features must be one of pooled, full"),
        (lambda: ExtractConfig(features=()), "features must name at least one of pooled"),
        (lambda: ExtractConfig(keypoints_missing="skip"), "keypoints_missing must be one of fail"),
    ],
)
def test_a_wrong_value_is_named_as_the_library_has_it(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_a_contradiction_names_fields_that_the_command_can_translate() -> None:
    with pytest.raises(ConfigError, match=r"^file and demo contradict each other") as refused:
        WeightsConfig(file=Path("w.pth"), demo=True)
    assert refused.value.fields == ("file", "demo")
    again = pickle.loads(pickle.dumps(refused.value))  # as from another process
    assert (str(again), again.fields) == (str(refused.value), ("file", "demo"))
    with pytest.raises(ConfigError, match=r"^det_model needs pose_model:"):
        PoseConfig(det_model=Path("d.onnx"))
