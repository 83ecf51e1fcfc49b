"""A probe's result as a self-contained HTML page."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import ConfigError
from ..exchange.probe import ProbeResult

TEMPLATE = Path(__file__).with_name("probe.html")
MOST_CLASSES = 40  # in a readable confusion matrix


def probe_page(result: ProbeResult, *, file: str) -> str:
    """The page: figures compared with chance, which streams carry signal, classes, confusions.

    Raises:
        ConfigError: jinja2 is missing.
    """
    try:
        import jinja2
    except ImportError:
        raise ConfigError("--report needs jinja2: pip install 'epam-extract[probe]'") from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    linear = [score for score in result.scores if score.classifier == "linear"]
    return template.render(
        result=result,
        file=file,
        weights=json.dumps(result.weights),
        linear=linear,
        matrices=linear if len(result.classes) <= MOST_CLASSES else [],
    )
