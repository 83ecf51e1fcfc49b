"""Find the annotation of each video."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..formats import FORMATS

SHOWN = 5  # names in a report


@dataclass(frozen=True)
class Matches:
    """Which videos have an annotation, and which one."""

    source: str
    """Name of the file or folder."""
    annotations: int
    """Number of annotations in the source."""
    found: dict[str, str]
    """Video id -> name of its annotation."""
    reasons: dict[str, str]
    """Id of a video without an annotation -> the reason."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of the videos without an annotation."""
        return tuple(self.reasons)

    def report(self) -> str:
        """One line for the user: how many match, and which videos have none."""
        videos = len(self.found) + len(self.reasons)
        line = (
            f"{self.source}: {len(self.found):,} of {self.annotations:,} annotations match, for "
            f"{len(self.found):,} of {videos:,} videos"
        )
        if not self.reasons:
            return line
        more = ", ..." if len(self.reasons) > SHOWN else ""
        return f"{line}; no annotation for: {', '.join(self.missing[:SHOWN])}{more}"


def match(
    names: Sequence[str], video_ids: Iterable[str], *, source: str, named: bool = True
) -> Matches:
    """Find each video's annotation among ``names``.

    An annotation belongs to a video if its name is the id, the id's last component, either of them
    without NTU's ``_rgb``, or the name that ``export --to pyskl`` makes of the id. If its name has
    directories, the last component counts too. The exact id wins. Ambiguous matches, of an
    annotation to two videos or of a video to two annotations, are rejected.
    """
    ids = list(video_ids)
    exact = set(names)
    by_alias: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        for alias in _aliases(name):
            by_alias[alias].add(name)
    claims: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for video_id in ids:
        candidates = list(dict.fromkeys(_names(video_id)))
        known = (name for name in candidates if name in exact or name in by_alias)
        name = next(known, "")
        hits = {name} if name in exact else by_alias.get(name, set())
        if len(hits) == 1:
            claims[video_id] = next(iter(hits))
        elif hits:
            reasons[video_id] = f"{source}: {' and '.join(sorted(hits)[:3])} could all be its"
        else:
            reasons[video_id] = f"{source} has no keypoints for it; looked for " + ", ".join(
                map(repr, candidates)
            )
    if not named and len(names) == len(ids) == 1:  # one file for one video, whatever its name
        claims, reasons = {ids[0]: names[0]}, {}
    claimants = Counter(claims.values())
    for video_id, name in list(claims.items()):
        if name != video_id and claimants[name] > 1:
            del claims[video_id]
            reasons[video_id] = f"{source}: the keypoints {name!r} could be of other videos, too"
    return Matches(source, len(exact), claims, {i: reasons[i] for i in ids if i in reasons})


def _names(video_id: str) -> Iterator[str]:
    """Possible names of a video's annotation, the most specific first."""
    last = video_id.rpartition("/")[2]
    for name in (video_id, last, FORMATS["pyskl"].name(video_id), last.partition(".")[0]):
        yield name
        yield name.removesuffix("_rgb")


def _aliases(name: str) -> Iterator[str]:
    """Other names by which an annotation may be found."""
    folder, _, last = name.rpartition("/")
    yield last
    if last == "alphapose-results":  # the name of all of AlphaPose's files
        yield folder
        yield folder.rpartition("/")[2]
    yield last.removesuffix("_result")  # easy_ViTPose's
    yield last.removeprefix("results_")  # of MMPose's demo
