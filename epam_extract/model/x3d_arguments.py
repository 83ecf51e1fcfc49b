"""Checks of the keywords that the streams share with the original classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ZOO_CONFIGS = {"conv_cfg": "Conv3d", "norm_cfg": "BN3d", "act_cfg": "ReLU"}


def check_arguments(
    num_stages: int,
    stage_blocks: Sequence[int],
    spatial_strides: Sequence[int],
    se_style: str,
    se_ratio: float | None,
) -> None:
    """Raise ValueError where the shape of the network contradicts itself."""
    if not 1 <= num_stages <= len(stage_blocks):
        raise ValueError(
            f"num_stages is {num_stages}, expected 1 to {len(stage_blocks)}: "
            f"stage_blocks {tuple(stage_blocks)} names that many stages"
        )
    if len(spatial_strides) != num_stages:
        raise ValueError(
            f"spatial_strides {tuple(spatial_strides)} has {len(spatial_strides)} values, "
            f"expected one for each of the {num_stages} stages"
        )
    if se_style not in ("half", "all"):
        raise ValueError(f"se_style is {se_style!r}, expected 'half' or 'all'")
    if se_ratio is not None and se_ratio <= 0:
        raise ValueError(f"se_ratio is {se_ratio}, expected a positive number, or None for no SE")


def check_zoo_configs(configs: Mapping[str, Mapping[str, object] | None]) -> None:
    """Raise ValueError where an mmcv-style dictionary asks for a layer this network lacks."""
    for name, config in configs.items():
        if config is not None and config.get("type") != ZOO_CONFIGS[name]:
            raise ValueError(
                f"{name} is {dict(config)}, expected type {ZOO_CONFIGS[name]!r}: "
                "the published weights fit no other layer. Leave it out."
            )
