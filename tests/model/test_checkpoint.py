"""Checkpoints load completely or not at all, and an error says what is wrong."""

import pickle
import zipfile

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import save_file

from epam_extract import CheckpointError
from epam_extract.model import EPAMBackbone, load_stream_weights, load_weights

WEIGHTS = reference.official_weights()


@pytest.fixture(scope="module")
def backbone() -> EPAMBackbone:
    return EPAMBackbone()


@pytest.fixture(autouse=True)
def blank(backbone):
    """Every test starts from weights that no checkpoint holds."""
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            tensor.fill_(7)


def is_loaded(module, prefix=""):
    return all(
        torch.equal(tensor, WEIGHTS[prefix + name]) for name, tensor in module.state_dict().items()
    )


def is_blank(module):
    return all(tensor.eq(7).all() for tensor in module.state_dict().values())


def port_names(tensors):
    return {
        name.replace(".bn.", ".norm.") if name.split(".")[0] != "attention_module" else name: tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            {
                "epoch": 8,
                "model_state_dict": {
                    f"module.{name}": tensor
                    for name, tensor in {**WEIGHTS, **reference.heads()}.items()
                },
            },
            id="distributed training",
        ),
        pytest.param({"state_dict": {**WEIGHTS, **reference.heads()}}, id="state_dict"),
        pytest.param({**WEIGHTS, **reference.heads()}, id="bare with heads"),
        pytest.param(WEIGHTS, id="bare"),
        pytest.param(port_names(WEIGHTS), id="standalone port"),
    ],
)
def test_every_known_format_loads(backbone, content, tmp_path):
    path = tmp_path / "epam.pth"
    torch.save(content, path)
    load_weights(backbone, path)
    assert is_loaded(backbone)


NO_COUNTERS = {n: t for n, t in WEIGHTS.items() if not n.endswith("num_batches_tracked")}

ALL = {**WEIGHTS, **reference.heads()}


def behind(prefix, tensors=ALL):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"model": ALL}, id="model"),
        pytest.param({"net": behind("module."), "epoch": 3}, id="net"),
        pytest.param({"ema": {"model": ALL}}, id="ema inside"),
        pytest.param({"state_dict": behind("model."), "ema": {}}, id="one prefix"),
        pytest.param(behind("backbone."), id="backbone prefix"),
        pytest.param(behind("module.model.backbone."), id="three prefixes"),
        pytest.param({"state_dict": {**NO_COUNTERS, **reference.heads()}}, id="no counters"),
        pytest.param(
            {
                "state_dict": ALL,
                "meta": {
                    "hook_msgs": {"best_score": np.float64(0.96), "best_ckpt": "e.pth"},
                    "scores": np.arange(6, dtype=np.float32).reshape(2, 3),
                    "epoch": np.int64(3),
                    "flags": np.array([True, False]),
                    "dtype": np.dtype("f4"),
                },
            },
            id="numpy in its meta",
        ),
    ],
)
def test_checkpoints_as_people_have_them_load(backbone, content, tmp_path):
    path = tmp_path / "epam.pth"
    torch.save(content, path)
    load_weights(backbone, path)
    for name, tensor in backbone.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert tensor in (0, WEIGHTS[name])
        else:
            assert torch.equal(tensor, WEIGHTS[name])


@pytest.mark.parametrize("prefix", ["model.", "encoder.backbone.", "module.model."])
def test_single_streams_load_behind_any_prefix(backbone, prefix, tmp_path):
    path = tmp_path / "rgb.pth"
    tensors = reference.stream_checkpoint("rgb")["state_dict"]
    if "encoder" in prefix:  # heads left out
        tensors = {n.split(".", 1)[1]: t for n, t in tensors.items() if n.startswith("backbone.")}
    torch.save({"model": behind(prefix, tensors)}, path)
    load_stream_weights(backbone, "rgb", path)
    assert is_loaded(backbone.rgb_backbone, "rgb_backbone.")


@pytest.mark.slow
def test_numpy_objects_are_refused_like_any_other_code(backbone, tmp_path):
    path = tmp_path / "epam.pth"
    torch.save({"state_dict": ALL, "meta": Evil("touch x")}, path)
    with pytest.raises(CheckpointError, match=r"names (posix|os)\.system, which could run code"):
        load_weights(backbone, path)
    torch.save({"state_dict": ALL, "meta": np.random.default_rng(0)}, path)
    with pytest.raises(CheckpointError) as failure:
        load_weights(backbone, path)
    assert "\x1b" not in str(failure.value) and "numpy.random" in str(failure.value)
    assert is_blank(backbone)


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def test_tensors_without_values_or_sense_are_refused(backbone, tmp_path):
    path = tmp_path / "epam.pth"
    name = "rgb_backbone.layer1.0.conv1.bn.running_var"
    for tensor, said in (
        (torch.empty_like(WEIGHTS[name], device="meta"), "no plain numbers"),
        (-WEIGHTS[name], "variances are negative"),
    ):
        torch.save({**WEIGHTS, name: tensor}, path)
        with pytest.raises(CheckpointError, match=said):
            load_weights(backbone, path)
    assert is_blank(backbone)


def test_safetensors_load(backbone, tmp_path):
    path = tmp_path / "epam.safetensors"
    save_file(WEIGHTS, path)
    load_weights(backbone, path)
    assert is_loaded(backbone)


@pytest.mark.parametrize("stream", ["rgb", "pose"])
def test_a_single_stream_loads_into_its_stream_alone(backbone, stream, tmp_path):
    path = tmp_path / f"{stream}.pth"
    torch.save(reference.stream_checkpoint(stream), path)
    load_stream_weights(backbone, stream, path)
    other = backbone.pose_backbone if stream == "rgb" else backbone.rgb_backbone
    assert is_loaded(getattr(backbone, f"{stream}_backbone"), f"{stream}_backbone.")
    assert is_blank(other)
    assert is_blank(backbone.attention_module)


def test_a_stream_is_taken_out_of_a_multimodal_file(backbone, tmp_path):
    path = tmp_path / "epam.pth"
    torch.save(WEIGHTS, path)
    load_stream_weights(backbone, "pose", path)
    assert is_loaded(backbone.pose_backbone, "pose_backbone.")


@pytest.mark.slow
def test_pretrained_arguments_load_and_survive_init_weights(tmp_path):
    path = tmp_path / "rgb.pth"
    torch.save(reference.stream_checkpoint("rgb"), path)
    built = EPAMBackbone(rgb_pretrained=path)
    assert is_loaded(built.rgb_backbone, "rgb_backbone.")
    built.init_weights()
    assert is_loaded(built.rgb_backbone, "rgb_backbone.")
    with pytest.raises(CheckpointError, match="--rgb-weights"):
        EPAMBackbone(pose_pretrained=path)


def without(*names):
    return {name: tensor for name, tensor in WEIGHTS.items() if name not in names}


GAMMA = "pose_backbone.layer2.3.conv2.bn.weight"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(without(GAMMA), f"1 tensors missing, 0 unexpected.*{GAMMA}", id="one missing"),
        pytest.param({**WEIGHTS, "extra": torch.ones(1)}, "1 unexpected.*extra", id="one too many"),
        pytest.param(
            {**WEIGHTS, GAMMA: torch.ones(3)}, rf"{GAMMA} is \(3,\), expected \(108,\)", id="shape"
        ),
        pytest.param({**WEIGHTS, GAMMA: torch.full((108,), torch.nan)}, "hold NaN", id="nan"),
        pytest.param(
            reference.stream_checkpoint("rgb"), "single rgb stream: .*--rgb-weights", id="rgb only"
        ),
        pytest.param(
            {name: tensor for name, tensor in WEIGHTS.items() if "attention" not in name},
            "7 tensors missing.*attention_module",
            id="no attention",
        ),
        pytest.param({"fc.weight": torch.ones(2)}, "1067 tensors missing", id="another network"),
        pytest.param({"epoch": 3}, "no tensors in it", id="no tensors"),
        pytest.param([1, 2], "no tensors in it", id="a list"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(backbone, content, message, tmp_path):
    path = tmp_path / "wrong.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_weights(backbone, path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert is_blank(backbone)


@pytest.mark.slow
def test_the_attentions_type_is_recognised(backbone, tmp_path):
    path = tmp_path / "older.pth"
    torch.save(EPAMBackbone(attention_type="spatial_temporal").state_dict(), path)
    with pytest.raises(CheckpointError, match='attention_type="spatial_temporal"'):
        load_weights(backbone, path)


class Intruder:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def cut_short(path):
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:100_000])


def inflating(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda path: None, "does not exist", id="absent"),
        pytest.param(lambda path: path.mkdir(), "is a directory", id="directory"),
        pytest.param(lambda path: path.write_bytes(b""), "damaged", id="empty"),
        pytest.param(lambda path: path.write_text("weights\n" * 99), "damaged", id="text"),
        pytest.param(lambda path: path.write_bytes(bytes(range(256)) * 9), "damaged", id="noise"),
        pytest.param(cut_short, "damaged", id="cut short"),
        pytest.param(inflating, "would unpack to", id="zip bomb"),
        pytest.param(
            lambda path: path.write_bytes(pickle.dumps(Intruder())), "tensors only", id="code"
        ),
        pytest.param(lambda path: torch.save(Intruder(), path), "tensors only", id="code in zip"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_checkpoint(backbone, write, message, suffix, tmp_path, capsys):
    path = tmp_path / f"wrong{suffix}"
    write(path)
    if suffix == ".safetensors" and message in ("damaged", "would unpack to", "tensors only"):
        message = "not a safetensors file"
    with pytest.raises(CheckpointError, match=message) as raised:
        load_weights(backbone, path)
    assert "\n" not in str(raised.value)
    assert is_blank(backbone)
    assert "ran" not in capsys.readouterr().out
