"""``python -m sample_videos.training.samples``: make ``sample_videos/`` again, truth included.

Four clips of synthetic people. Beside each lies ``<name>.npz`` with the fields of one annotation
of mmaction2's pose pickles (``frame_dir``, ``total_frames``, ``img_shape``, ``keypoint`` (M, T,
17, 2), ``keypoint_score`` (M, T, 17)); ``segments.json`` says in ActivityNet's layout what
happens when in the untrimmed one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .dataset import HELD_OUT_BANK
from .motions import Script
from .people import Body
from .props import make_thing
from .render import RenderedClip, draw_skeleton, render_scene
from .scenes import Look, Scene

FPS = 25
WIDTH, HEIGHT = 384, 288
OVERSAMPLING = 2  # rendered larger and shrunk, so edges are smooth
ROOM = Look(easy=True, room_share=1.0, smallest=150.0, largest=165.0)
Place = tuple[float, float, float, float]  # second, x, z, yaw


@dataclass(frozen=True)
class Actor:
    """One person: a seed for body and clothes, what they do from when on, and where they are."""

    seed: int
    parts: list[tuple[float, str]]
    path: list[Place]


@dataclass(frozen=True)
class Plan:
    """One sample video."""

    name: str
    seconds: float
    room: int
    actors: list[Actor]
    things: list[tuple[str, int, float, float, float]] = field(default_factory=list)
    segments: list[tuple[float, float, str]] = field(default_factory=list)


RIGHT, LEFT, FRONT = 1.35, -1.35, 0.0  # yaw: to the picture's right, left, to the camera

PLANS = (
    Plan(
        "walk_and_wave",
        7.0,
        27,
        [
            Actor(
                4,
                [(0, "walk"), (2.6, "wave"), (5.0, "walk")],
                [(0, -1.5, -0.2, RIGHT), (2.4, 0.1, 0.2, RIGHT), (2.8, 0.1, 0.2, FRONT),
                 (4.9, 0.1, 0.2, FRONT), (5.2, 0.1, 0.2, RIGHT), (7.0, 1.5, -0.1, RIGHT)],
            )
        ],
    ),
    Plan(
        "workout",
        6.0,
        14,
        [
            Actor(39, [(0, "squat")], [(0, -0.75, 0.0, 0.45)]),
            Actor(53, [(0, "jack"), (2.6, "idle"), (3.0, "kick")], [(0, 0.75, 0.1, -0.25),
                  (2.8, 0.75, 0.1, -0.25), (3.1, 0.75, 0.1, -0.9)]),
        ],
    ),
    Plan(
        "living_room",
        8.0,
        22,
        [
            Actor(2, [(0, "walk"), (2.0, "idle"), (2.4, "sit"), (3.6, "seated")],
                  [(0, -0.2, 0.45, LEFT), (1.8, -1.0, 0.1, LEFT), (2.2, -1.0, 0.1, 0.5),
                   (2.4, -1.0, 0.1, 0.5), (3.4, -1.2, -0.28, 0.5)]),
            Actor(33, [(0, "throw")], [(0, 0.35, -0.5, 0.7)]),
            Actor(37, [(0, "drink")], [(0, 1.25, -0.6, -0.3)]),
        ],
        things=[("chair", 3, -1.2, -0.32, 0.5), ("table", 4, 1.15, 0.05, 0.0)],
    ),
    Plan(
        "untrimmed",
        12.0,
        17,
        [
            Actor(
                29,
                [(0, "idle"), (1.2, "wave"), (3.0, "idle"), (3.8, "squat"), (6.0, "idle"),
                 (6.8, "throw"), (8.4, "idle"), (9.2, "kick"), (10.9, "idle")],
                [(0, 0.0, 0.0, 0.15), (6.4, 0.0, 0.0, 0.15), (6.8, 0.0, 0.0, 0.8),
                 (8.4, 0.0, 0.0, 0.8), (9.1, 0.0, 0.0, -0.8)],
            )
        ],
        segments=[(1.2, 3.0, "wave"), (3.8, 6.0, "squat"),
                  (6.8, 8.4, "throw"), (9.2, 10.9, "kick")],
    ),
)  # fmt: skip


def film(plan: Plan) -> RenderedClip:
    """Render one plan at the size of the sample videos."""
    scale = OVERSAMPLING
    scene = Scene(
        plan.room,
        look=ROOM,
        width=WIDTH * scale,
        height=HEIGHT * scale,
        textures=HELD_OUT_BANK + 1,
        empty=True,
    )
    scene.blur = scene.noise = scene.jpeg = 0
    scene.shadows = True
    for actor in plan.actors:
        rng = np.random.default_rng(actor.seed)
        body = Body(rng, seed=HELD_OUT_BANK + 1, moves=Script(actor.parts, rng))
        body.path = actor.path
        scene.bodies.append(body)
    for kind, seed, x, z, yaw in plan.things:
        rng = np.random.default_rng(seed)
        scene.things += make_thing(kind, rng, seed=HELD_OUT_BANK + 1, x=x, z=z, yaw=yaw)
    large = render_scene(scene, frames=round(plan.seconds * FPS), fps=FPS)
    frames = np.stack(
        [cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for f in large.frames]
    )
    # a pixel's middle at (i + 0.5) / scale of the large picture
    keypoints = (large.keypoints + 0.5) / scale - 0.5
    return RenderedClip(
        frames.astype(np.uint8),
        keypoints.astype(np.float32),
        large.visibility,
        (large.boxes / scale).astype(np.float32),
        large.usable,
        FPS,
    )


def write_video(path: Path, frames: NDArray[np.uint8], *, quality: int = 25) -> None:
    """Encode (T, H, W, 3) RGB frames as H.264; ``quality`` is x264's CRF, lower is better."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": str(quality), "preset": "slow", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def write_truth(path: Path, name: str, clip: RenderedClip) -> None:
    """Write the keypoints, to an eighth of a pixel, in the layout of an mmaction2 annotation."""
    np.savez_compressed(
        path,
        frame_dir=np.array(name),
        total_frames=np.array(len(clip.frames)),
        img_shape=np.array(clip.frames.shape[1:3]),
        keypoint=(np.round(clip.keypoints * 8) / 8).astype(np.float32),
        keypoint_score=clip.scores,
    )


def activitynet(plans: tuple[Plan, ...]) -> dict[str, object]:
    """Return the segments of the untrimmed plans as ActivityNet's JSON has them.

    With the fields that ActionFormer and OpenTAD need beside: ``fps``, ``frame``, ``label_id``.
    """
    labels = sorted({label for plan in plans for *_, label in plan.segments})
    database = {
        plan.name: {
            "subset": "validation",
            "duration": plan.seconds,
            "fps": FPS,
            "frame": round(plan.seconds * FPS),
            "annotations": [
                {"segment": [start, end], "label": label, "label_id": labels.index(label)}
                for start, end, label in plan.segments
            ],
        }
        for plan in plans
        if plan.segments
    }
    return {"version": "epam-extract samples", "database": database}


def make_samples(folder: Path) -> list[Path]:
    """Render and write all sample videos; return the paths of the videos."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plan in PLANS:
        clip = film(plan)
        path = folder / f"{plan.name}.mp4"
        write_video(path, clip.frames)
        write_truth(path.with_suffix(".npz"), plan.name, clip)
        paths.append(path)
    (folder / "segments.json").write_text(json.dumps(activitynet(PLANS), indent=1) + "\n")
    return paths


def contact_sheet(folder: Path) -> Path:
    """Draw what the bundled model finds in the sample videos: a row of pictures for each."""
    from .evaluate import Model, read_video

    model = Model()
    rows = []
    for plan in PLANS:
        frames = read_video(folder / f"{plan.name}.mp4")
        times = np.linspace(0.08, 0.92, 5) * plan.seconds
        if plan.segments:  # a pause, then the middle of each action
            times[1:] = [(start + end) / 2 for start, end, _ in plan.segments]
        row = []
        for second in times:
            picture = frames[int(second * FPS)]
            found = model(picture)
            for keypoints, scores in zip(found.keypoints, found.scores, strict=True):
                picture = draw_skeleton(picture, keypoints, scores)
            row.append(cv2.resize(picture, (256, 192), interpolation=cv2.INTER_AREA))
        rows.append(np.hstack(row))
    path = folder / "contact_sheet.jpg"
    sheet = np.vstack(rows)[..., ::-1]
    cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return path


def main() -> None:
    """Make the samples in the folder that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m sample_videos.training.samples")
    parser.add_argument("--out", type=Path, default=Path("sample_videos"))
    parser.add_argument("--sheet-only", action="store_true", help="draw contact_sheet.jpg alone")
    options = parser.parse_args()
    if not options.sheet_only:
        for path in make_samples(options.out):
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    print(contact_sheet(options.out))


if __name__ == "__main__":
    main()
