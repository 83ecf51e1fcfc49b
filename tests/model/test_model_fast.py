"""The fused copy equals the module it came from, whatever the batch and the threads."""

import copy
import threading

import pytest
import reference
import torch

from epam_extract import config
from epam_extract.model import (
    EPAMBackbone,
    X3DTemporalShift,
    X3DTemporalShiftPose,
    fast,
    folded,
    native,
    native_build,
    random_weights,
)
from epam_extract.model.fast import fuse, pool, supports, tokens

FLOAT32_BOUND = 1e-4  # of the std, at worst
BF16_BOUND = 0.02  # of the std, root mean square, with the reference's weights


@pytest.fixture(scope="module")
def backbone() -> EPAMBackbone:
    backbone = EPAMBackbone()
    random_weights(backbone, 5)
    return backbone.eval()


@pytest.fixture(scope="module", params=["torch", "native"])
def fused(request, backbone):
    """The copy as it runs everywhere, and as a machine with a C++ compiler has it."""
    if request.param == "native" and native_build.find_compiler() is None:
        pytest.skip("no C++ compiler is here")
    fused = fuse(backbone, compile=request.param == "native")
    assert request.param == "torch" or native_build.is_built()
    assert fused.compiled == ("native" if request.param == "native" else "")
    return fused


@pytest.fixture(scope="module")
def clips():
    """Three short, small clips: 4 RGB frames of 64 x 64, 12 heatmaps of 16 x 16."""
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randn(3, 3, 4, 64, 64, generator=generator)
    return rgb, torch.rand(3, 17, 12, 16, 16, generator=generator)


def worst(found, expected):
    return ((found.float() - expected).abs().max() / expected.std()).item()


@pytest.mark.slow
def test_full_size_clips_are_equal(backbone, fused):
    rgb, heatmaps = torch.randn(1, 3, 16, 224, 224), torch.rand(1, 17, 48, 56, 56)
    with torch.inference_mode():
        for found, expected in zip(fused(rgb, heatmaps), backbone(rgb, heatmaps), strict=True):
            assert found.shape == expected.shape
            assert worst(found, expected) < FLOAT32_BOUND


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_any_batch_is_equal(backbone, fused, clips, batch):
    rgb, heatmaps = clips[0][:batch], clips[1][:batch]
    with torch.inference_mode():
        for found, expected in zip(fused(rgb, heatmaps), backbone(rgb, heatmaps), strict=True):
            assert worst(found, expected) < FLOAT32_BOUND


def test_a_clips_bits_do_not_depend_on_its_batch(fused, clips):
    together = fused(*clips)
    for i in range(3):
        for found, expected in zip(
            fused(clips[0][i, None], clips[1][i, None]), together, strict=True
        ):
            assert torch.equal(found[0], expected[i])


def test_the_attention_map_is_the_modules_whatever_the_batch(backbone, fused, clips):
    with torch.inference_mode():
        pose = fused(*clips)[1]
        together = fused.attention_map(pose)
        expected = backbone.attention_module(pose[:, :, ::3])[:, 0]
    assert torch.allclose(together, expected, atol=1e-6)
    for i in range(len(pose)):
        assert torch.equal(fused.attention_map(pose[i, None])[0], together[i])


def test_odd_sizes_are_equal(backbone, fused):
    """Rows and columns that no stride divides, and one frame alone."""
    rgb, heatmaps = torch.randn(1, 3, 1, 75, 61), torch.rand(1, 17, 3, 19, 16)
    with torch.inference_mode():
        for found, expected in zip(fused(rgb, heatmaps), backbone(rgb, heatmaps), strict=True):
            assert worst(found, expected) < FLOAT32_BOUND


@pytest.mark.slow
@pytest.mark.parametrize("chunk_bytes", [1, 100_000, 1 << 40])
def test_pieces_of_any_size_give_the_same(backbone, clips, chunk_bytes, monkeypatch):
    monkeypatch.setattr(folded, "CHUNK_BYTES", chunk_bytes)
    with torch.inference_mode():
        for found, expected in zip(fuse(backbone)(*clips), backbone(*clips), strict=True):
            assert worst(found, expected) < FLOAT32_BOUND


def test_a_whole_batch_at_once_is_equal(backbone, clips):
    """What happens on a GPU, on the CPU: every clip in one go, inputs padded."""
    fused = fuse(backbone)
    fused.rgb = folded.FusedStream(backbone.rgb_backbone, pad_input=True)
    fused.pose = folded.FusedStream(backbone.pose_backbone, pad_input=True)
    with torch.inference_mode():
        for found, expected in zip(fused.clips(*clips), backbone(*clips), strict=True):
            assert worst(found, expected) < FLOAT32_BOUND


@pytest.mark.slow
def test_a_whole_batch_is_one_graph(clips):
    """Nothing in it stops ``torch.compile``, which GPUs and bfloat16 use."""
    backbone = EPAMBackbone()
    backbone.rgb_backbone = X3DTemporalShift(
        num_stages=1, stage_blocks=(2,), spatial_strides=(2,), conv1_stride=4
    )
    backbone.pose_backbone = X3DTemporalShiftPose(
        num_stages=1, stage_blocks=(1,), spatial_strides=(2,)
    )
    random_weights(backbone, 0)
    fused = fuse(backbone)
    captured = torch.compile(fused.clips, backend="eager", fullgraph=True)
    with torch.no_grad():
        for found, expected in zip(captured(*clips), backbone.eval()(*clips), strict=True):
            assert worst(found, expected) < FLOAT32_BOUND


def test_plain_frames_are_normalised_inside(backbone, fused, clips):
    frames = torch.randint(0, 256, (2, 4, 64, 64, 3), dtype=torch.uint8)  # (N, T, H, W, 3)
    mean, std = torch.tensor(config.IMAGENET_MEAN), torch.tensor(config.IMAGENET_STD)
    rgb = ((frames - mean) / std).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        expected = backbone(rgb, clips[1][:2])
        for given in (frames, frames.permute(0, 4, 1, 2, 3)):
            for found, wanted in zip(fused(given, clips[1][:2]), expected, strict=True):
                assert worst(found, wanted) < FLOAT32_BOUND


def test_the_constants_are_the_packages():
    assert (fast.IMAGENET_MEAN, fast.IMAGENET_STD) == (config.IMAGENET_MEAN, config.IMAGENET_STD)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["torch", "native"])
def test_bf16_stays_within_its_stated_error(clips, way):
    if way == "native" and not native.multiplies(torch.bfloat16):
        pytest.skip("this processor has no AVX512-BF16")
    backbone = EPAMBackbone()
    backbone.load_state_dict(reference.official_weights(), strict=False)
    backbone.eval()
    fused = fuse(backbone, dtype=torch.bfloat16, compile=way == "native")
    assert fused.compiled == ("native" if way == "native" else "")
    together = fused(*clips)
    with torch.inference_mode():
        for found, expected in zip(together, backbone(*clips), strict=True):
            assert found.dtype == torch.bfloat16
            difference = found.float() - expected
            assert difference.square().mean().sqrt() < BF16_BOUND * expected.std()
    for i in range(3):
        alone = fused(clips[0][i, None], clips[1][i, None])
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together, strict=True))


def test_a_processor_without_bf16_is_not_asked_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "CPUINFO", tmp_path / "cpuinfo")
    assert not native.multiplies(torch.bfloat16)
    native.CPUINFO.write_text("model name : some\nflags : fma avx2 avx512f\n")
    assert not native.multiplies(torch.bfloat16)
    native.CPUINFO.write_text("model name : some\nflags : fma avx2 avx512_bf16 amx_bf16\n")
    assert native.multiplies(torch.bfloat16)
    assert native.multiplies(torch.float32) and not native.multiplies(torch.float16)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_threads_do_not_disturb_each_other(fused, clips, one_thread):
    expected = fused(*clips)
    results = [None] * 4

    def work(i):
        torch.set_num_threads(1)
        results[i] = [fused(*clips) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pairs in results:
        for pair in pairs:
            assert all(torch.equal(a, b) for a, b in zip(pair, expected, strict=True))


def test_without_a_compiler_it_says_so_and_goes_on(backbone, clips, monkeypatch, caplog):
    monkeypatch.setattr(native_build, "find_compiler", lambda: None)
    native_build.library.cache_clear()
    fused = fuse(backbone, compile=True)
    native_build.library.cache_clear()
    assert fused.compiled == ""
    assert "no C++ compiler" in caplog.text
    with torch.inference_mode():
        assert worst(fused(*clips)[0], backbone(*clips)[0]) < FLOAT32_BOUND


def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    failing = tmp_path / "c++"
    failing.write_text(
        "#!/bin/sh\ncase $1 in --version) echo fake 1.0;; *) echo no >&2; exit 1;; esac"
    )
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_build.library.cache_clear()
    assert not native_build.is_built()
    with pytest.raises(native_build.NativeUnavailable, match="failed: no"):
        native_build.library()
    native_build.library.cache_clear()


def test_other_attention_one_stream_and_training_mode(clips):
    backbone = EPAMBackbone(attention_type="spatial_temporal", return_both_streams=False)
    random_weights(backbone, 0)
    fused = fuse(backbone.train())
    rgb, heatmaps = torch.randn(1, 3, 16, 32, 32), torch.rand(1, 17, 48, 8, 8)
    with torch.inference_mode():
        expected = backbone.eval()(rgb, heatmaps)
    assert worst(fused(rgb, heatmaps), expected) < FLOAT32_BOUND


def test_the_copy_is_a_copy(backbone, clips):
    before = fuse(backbone)(*clips)
    other = copy.deepcopy(backbone)
    mine = fuse(other)
    random_weights(other, 9)
    assert all(torch.equal(a, b) for a, b in zip(mine(*clips), before, strict=True))
    assert not any(parameter.requires_grad for parameter in mine.parameters())


def test_wrong_shapes_are_named(fused):
    with pytest.raises(ValueError, match="three heatmap frames to one RGB frame"):
        fused(torch.zeros(1, 3, 4, 64, 64), torch.zeros(1, 17, 4, 16, 16))


@pytest.mark.slow
def test_pooled_and_tokens_are_means():
    features = torch.randn(2, 5, 4, 3, 3)
    torch.testing.assert_close(pool(features), features.mean((2, 3, 4)))
    assert tokens(features).shape == (2, 4, 5)
    torch.testing.assert_close(tokens(features)[1, 2], features[1, :, 2].mean((1, 2)))
    assert pool(features.to(torch.bfloat16)).dtype == torch.float32


def test_support_is_told():
    assert supports(torch.float32, "cpu")
    assert not supports(torch.int8, "cpu")
    assert supports(torch.bfloat16, "cpu") == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert not supports(torch.float16, "meta")
