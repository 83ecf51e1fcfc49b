"""From videos to features: every stage at work at once, in bounded memory.

``run`` joins the stages: ``plan`` says what there is to do, ``video_worker`` turns one video into
clips, ``inference`` runs the network on batches of them, and ``output`` writes what comes out.
All threads start in ``concurrency``; ``models`` and ``installed`` find and load what a run needs.
"""


def __getattr__(name: str) -> object:
    if name == "extract_features":  # on first use: torch and the decoders load with it
        from .run import extract_features

        return extract_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
