"""Markers of a JPEG stream (ITU-T T.81, B.1): the sizes that it tells and the number of its scans, without decoding."""

import re
import struct

MAX_SCANS = 100
"""Progressive encoders write about 10; each scan goes over the whole image, so empty ones buy time for nothing."""

_SCAN = b"\xff\xda"
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan, 0xff is followed by 0, or by a restart marker


def sizes(coded: bytes) -> set[tuple[int, int, int]]:
    """(columns, rows, samples) in every frame header before the first scan (T.81 B.2.2, T.87 C.1)."""
    frames: set[tuple[int, int, int]] = set()
    at = 2
    while at + 10 <= len(coded) and coded[at] == 0xFF:
        kind = coded[at + 1]
        if kind == _SCAN[1]:
            return frames
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == 0xF7 or (0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)):
            rows, columns, samples = struct.unpack_from(">HHB", coded, at + 5)
            frames.add((columns, rows, samples))
        at += 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
    return set()


def has_too_many_scans(coded: bytes) -> bool:
    """True if there are more than MAX_SCANS scans."""
    if coded.count(_SCAN) <= MAX_SCANS:  # at least as many as scans: other segments may hold these bytes too
        return False
    at, scans = 2, 0
    while at + 4 <= len(coded) and scans <= MAX_SCANS:
        if coded[at] != 0xFF or coded[at + 1] == 0xFF:
            at += 1  # decoders skip what is between segments
            continue
        kind = coded[at + 1]
        if kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD9:  # without a length
            at += 2
            continue
        at += 2 + int.from_bytes(coded[at + 2 : at + 4], "big")
        if kind == _SCAN[1]:
            scans += 1
            following = _AFTER_SCAN.search(coded, at)
            at = following.start() if following else len(coded)
    return scans > MAX_SCANS
