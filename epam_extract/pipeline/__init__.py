"""From videos to features, with all stages at work at the same time, in bounded memory.

One run, top-down:

run          find the videos, plan, load the models, open the output, run the stages, sum up
plan         which videos to do (jobs), how many windows, and whether they fit on the disk
models       load the weights (installed_weights), the pose models and the keypoint file
             keypoint_sources: which of the two gives a video its keypoints
stages       connect the stages through threads and queues (concurrency)
             video_worker: a video -> keypoints and clips
             inference:    clips -> features, on a device
             output:       keypoints and features -> the file
context      what all stages share
summary      what the run did
"""


def __getattr__(name: str) -> object:
    if name == "extract_features":  # on first use: torch and the decoders load with it
        from .run import extract_features

        return extract_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
