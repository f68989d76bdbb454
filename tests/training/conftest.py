from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mohs.data import glyphs as built_in
from mohs.data.dataset import Dataset
from mohs.data.split import limit_per_class


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are tiny: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def glyphs() -> Dataset:
    """Twenty-four letters in five drawings each, one of them in the catalog: 120 pictures of 16 pixels."""
    drawn = built_in.draw_glyphs(16, channels=1)
    letters = [f"U+{ord(letter):04X}" for letter in "ABCDEFGHKLMNQRSTUVWXYZbd"]
    drawn = drawn.take(np.isin(drawn.labels, letters))
    return drawn.take(limit_per_class(drawn, 5, seed=0))
