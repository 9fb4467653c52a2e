"""Cut storages into sections: what tensors name, and what lies between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from samebits.cas.formats.plan import Section, TensorName
from samebits.cas.formats.torch_objects import NamedView


def group_views(views: Iterable[NamedView]) -> dict[str, list[NamedView]]:
    """Return the views of each storage by its key."""
    found: dict[str, list[NamedView]] = {}
    for view in views:
        found.setdefault(view.key, []).append(view)
    return found


def cut_storage(start: int, stop: int, views: Iterable[NamedView]) -> list[Section]:
    """Return the sections of a storage at bytes [start, stop) of its file.

    Equal views share a section. Where views overlap, those that hold all the others of their group are named, and no
    others. A storage that nothing names is one section.
    """
    sections: list[Section] = []
    end = start
    for first, last, named in _groups(views):
        if start + first > end:
            sections.append(Section(end, start + first))
        sections.append(Section(start + first, start + last, named))
        end = start + last
    if end < stop:
        sections.append(Section(end, stop))
    return sections


def _groups(views: Iterable[NamedView]) -> Iterator[tuple[int, int, tuple[TensorName, ...]]]:
    """Yield the bytes of views that overlap each other, in order, with the names of those that hold all of them."""
    first, last, names = 0, 0, list[TensorName]()
    for (start, _, negative_stop), equal in groupby(sorted(views, key=_position), key=_position):
        stop = -negative_stop
        if start < last:
            if stop > last:  # neither holds the other
                last, names = stop, []
            continue
        if names:
            yield first, last, tuple(names)
        first, last, names = start, stop, [TensorName(view.name, view.dtype, view.shape) for view in equal]
    if names:
        yield first, last, tuple(names)


def _position(view: NamedView) -> tuple[int, bool, int]:
    """Order by start, empty ones first, then the longest first."""
    return view.start, view.stop > view.start, -view.stop
