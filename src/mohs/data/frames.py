"""Pictures of several frames or pages, of which one is taken: animations, scans of many pages, stacks."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from PIL import Image, TiffImagePlugin

__all__ = ["frames_warning", "num_frames"]

_NUM_NAMED = 3
# Their further pictures are previews, depth maps or layers of the first one.
_ONE_PICTURE = ("MPO", "PSD")
# Pillow counts their frames by going through the file, which would change the picture that is open.
_COUNTED = ("GIF", "TIFF")
_REDUCED = 1  # bit of the TIFF tag NewSubfileType: the page is a smaller copy of another


def num_frames(image: Image.Image, open_again: Callable[[], AbstractContextManager[Image.Image]]) -> int:
    """Return how many frames or pages a picture has, which is open as `image` and stays as it is.

    `open_again` opens the same file once more.

    Smaller copies of a page are not counted, nor the pictures that a camera adds to a JPEG (MPO), nor layers (PSD).
    What cannot be counted, since a later page is broken, counts as 1.
    """
    if image.format in _ONE_PICTURE:
        return 1
    if image.format not in _COUNTED:
        return int(getattr(image, "n_frames", 1))
    try:
        with open_again() as again:
            num = int(getattr(again, "n_frames", 1))
            if num == 1 or not isinstance(again, TiffImagePlugin.TiffImageFile):
                return num
            return max(1, sum(_is_page(again, page) for page in range(num)))
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise almost anything on a broken file.
        return 1


def frames_warning(frames: Sequence[int], name_of: Callable[[int], str]) -> str:
    """Return a line about pictures of several frames or pages; "" if there are none.

    Args:
        frames: number of frames of each picture.
        name_of: of a position, for examples.

    >>> frames_warning([1, 12], "ab".__getitem__)
    '1 of 2 pictures has several frames or pages (b: 12), and the first is taken; save another as a file of its own'
    """
    several = [i for i, num in enumerate(frames) if num > 1]
    if not several:
        return ""
    named = ", ".join(f"{name_of(i)}: {frames[i]:,}" for i in several[:_NUM_NAMED])
    more = f" and {len(several) - _NUM_NAMED:,} more" if len(several) > _NUM_NAMED else ""
    return (
        f"{len(several):,} of {len(frames):,} pictures {'has' if len(several) == 1 else 'have'} several frames or "
        f"pages ({named}{more}), and the first is taken; save another as a file of its own"
    )


def _is_page(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    image.seek(page)
    return not int(image.tag_v2.get(254, 0)) & _REDUCED
