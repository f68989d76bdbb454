import numpy as np
import pytest
from PIL import Image

from mohs.data.images import ImagePolicy
from mohs.index.index import Index
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Twelve pictures of six products, with a price and a note, some of which are awkward."""
    pytest.importorskip("lancedb", reason="needs mohs[search]")
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    lines = ["file,class,article,price,note"]
    notes = ["it's new", 'a "quote"', "", "back\\slash; DROP TABLE items;--", "Ümlaut", "two words"]
    for i in range(12):
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
        note = notes[i % 6].replace('"', '""')
        lines.append(f'{i:02d}.png,ring {i % 6},A{i:02d},{"" if i == 3 else i + 0.5},"{note}"')
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")
    embedder = Embedder.create(ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=5), ImagePolicy(size=16), seed=1)
    return Index.build(folder / "shop.index", folder / "shop.csv", embedder.eval(), id_column="article")
