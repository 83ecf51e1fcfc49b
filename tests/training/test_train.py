"""Training: it resumes, stops and begins from what is shipped."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sample_videos.training import train
from sample_videos.training.networks import Detector, KeypointNet
from sample_videos.training.render import render_clip
from sample_videos.training.restore import restore

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detector", "pose"])
def test_training_saves_and_goes_on(shards, monkeypatch, name):
    monkeypatch.setitem(train.RECIPES, name, dataclasses.replace(train.RECIPES[name], batch=3))
    path = train.train(name, shards, minutes=0.001, seed=1, threads=1)
    first = torch.load(path, weights_only=True)
    assert first["step"] >= 1
    train.train(name, shards, minutes=first["seconds"] / 60 + 0.001, seed=1, threads=1)
    second = torch.load(path, weights_only=True)
    assert second["step"] > first["step"]
    assert all(torch.isfinite(v).all() for v in second["mean"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detector", "pose"])
def test_training_again_starts_from_the_shipped_networks(shards, monkeypatch, tmp_path, name):
    monkeypatch.setitem(train.RECIPES, name, dataclasses.replace(train.RECIPES[name], batch=3))
    (tmp_path / "frames").symlink_to(shards / "frames")
    path = train.train(name, tmp_path, minutes=0.0001, seed=1, threads=1, again=True)
    saved = torch.load(path, weights_only=True)
    shipped, again = train.RECIPES[name].network(), train.RECIPES[name].network()
    pictures = torch.from_numpy(np.stack([render_clip(31, frames=1).frames[0, :128, :96]] * 2))
    restore(shipped, train.RECIPES[name].shipped, [train.inputs(name, pictures)])
    again.load_state_dict(saved["mean"])
    assert saved["step"] < 3
    with torch.no_grad():
        kept = again.eval()(train.inputs(name, pictures))
        for one, other in zip(kept, shipped.eval()(train.inputs(name, pictures)), strict=True):
            assert (one - other).abs().mean() < 0.3 * other.std()
    rates = [group["lr"] for tool in saved["optimisers"] for group in tool["param_groups"]]
    assert max(rates) <= train.AGAIN * train.MUON_RATE


def test_training_asks_for_onnx_before_it_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    assert "pip install -e '.[dev]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_training_stops_kindly(tmp_path):
    command = [sys.executable, "-m", "sample_videos.training.train", "--only", "render", "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored in the background
    ) as run:
        assert run.stdout.readline().startswith("rendered 0 of")
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does
        _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command resumes" in told


def test_learning_rate_warms_up_and_falls():
    rates = [train.learning_rate(1.0, 1000, share) for share in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([1.004, 0.504, 0.004], abs=1e-6)
    assert train.learning_rate(1.0, 0, 0.0) < 0.02


@pytest.mark.parametrize("network", [Detector, KeypointNet])
def test_every_weight_has_one_optimiser(network):
    built = network()
    muon, adam = train.optimisers(built)
    hidden = {id(w) for group in muon.param_groups for w in group["params"]}
    rest = {id(w) for group in adam.param_groups for w in group["params"]}
    assert not hidden & rest
    assert hidden | rest == {id(w) for w in built.parameters()}
    names = {name for name, weight in built.named_parameters() if id(weight) in hidden}
    assert not any(name.startswith(network.ENDS) or name.endswith("bias") for name in names)
    assert "body.mix16.0.weight" in names
