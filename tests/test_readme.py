"""README tells the truth: its snippets run, its commands and options exist."""

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from epam_extract import EPAMBackbone
from epam_extract.cli import app
from epam_extract.config import ExtractConfig
from epam_extract.model import random_weights
from epam_extract.pipeline.plan import BYTES_PER_FRAME, window_bytes
from epam_extract.schema import as_text

README = (Path(__file__).parents[1] / "README.md").read_text()
LIBRARY = README.split("\n## The library\n")[1].split("\n## ")[0]
SNIPPETS = [
    pytest.param(code, id=title.strip().lower())
    for title, code in re.findall(r"\n### ([^\n]+)\n.*?```python\n(.*?)```", LIBRARY, re.DOTALL)
]
TITLES = ("use", "pretrained", "freez", "one stream", "head", "several heads", "distil")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = EPAMBackbone()
    random_weights(backbone, 0)
    path = tmp_path_factory.mktemp("readme") / "epam.pth"
    torch.save({"state_dict": backbone.state_dict()}, path)
    return path


def test_the_library_section_has_a_snippet_for_each_use() -> None:
    found = [str(snippet.id) for snippet in SNIPPETS]
    for title in TITLES:
        assert any(title in name for name in found), title


@pytest.mark.slow
@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet_runs(code: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_commands_and_options_exist() -> None:
    names = (
        "extract export check classify probe merge report info verify preview bench weights models"
    )
    shown = set(re.findall(rf"epam-extract ({names.replace(' ', '|')})\b", README))
    helps = [
        CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"}).output
        for name in ([], *([name] for name in shown))
    ]
    everything = " ".join(helps)
    for option in sorted(set(re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", README))):
        assert option in everything, option


def test_the_two_commands_of_the_quick_start_are_what_ci_runs() -> None:
    script = (Path(__file__).parents[1] / ".ci" / "run").read_text()
    assert "epam-extract sample_videos/ --out feats.h5 --demo" in README
    assert re.search(r"epam-extract sample_videos/ --out \S+feats.h5\S* --demo", script)
    assert "pip install '.[test]' && pytest" in README


def test_linked_files_exist() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target


def test_the_file_is_described_as_the_schema_has_it() -> None:
    section = README.split("\n## The file\n")[1].split("\n## ")[0]
    assert f"```\n{as_text()}\n```" in section, f"the block should be:\n{as_text()}"


@pytest.mark.parametrize(
    ("features", "row"),
    [
        (("pooled",), "| pooled (`--no-full`) | 31 MB | 31 TB |"),
        (("pooled", "tokens"), "| pooled and tokens | 420 MB | 420 TB |"),
        (("pooled", "full"), "| pooled and full maps, f16 | 9.6 GB | 9.6 PB |"),
    ],
)
def test_sizes_of_a_million_hours_follow_from_the_layout(
    features: tuple[str, ...], row: str
) -> None:
    assert row in README
    frames = 25 * 3600
    hour = frames / 16 * window_bytes(ExtractConfig(features=features)) + frames * BYTES_PER_FRAME
    number, unit = row.split("|")[2].split()
    assert hour / {"MB": 1e6, "GB": 1e9}[unit] == pytest.approx(float(number), rel=0.02)
