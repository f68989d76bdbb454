"""Building, searching and changing an index."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy, decode_image
from mohs.errors import InputError
from mohs.index.index import Index, _unit
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.sums import read_summed, write_summed


@pytest.fixture
def index(shop, embedder, tmp_path):
    return Index.build(tmp_path / "shop.index", shop / "shop.csv", embedder, id_column="article")


def test_a_picture_finds_itself_first_with_its_row(index, shop):
    assert len(index) == 60
    [answer] = index.search([shop / "07-1.png"], num_matches=5)
    first = answer.matches[0]
    assert (first.id, first.label, answer.label) == ("A071", "ring 7", "ring 7")
    assert first.distance < 1e-3
    assert first.probability is None
    assert first.columns["price"] == 7.5
    assert first.columns["note"] is None
    assert first.columns["file"] == "07-1.png"
    assert first.columns["path"] == str(shop / "07-1.png")
    assert Image.open(io.BytesIO(first.columns["thumbnail"])).size == (96, 96)
    assert len(answer.matches) == 5
    distances = [match.distance for match in answer.matches]
    assert distances == sorted(distances)
    assert sum(answer.votes.values()) == pytest.approx(1)


def test_answers_are_those_of_a_comparison_with_every_item(index, embedder):
    vectors = index.vectors()
    query = np.random.default_rng(1).normal(size=(70, 16)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    for q, answer in zip(query, index.search(query, num_matches=7), strict=True):
        distance = np.linalg.norm(vectors.x_ND.astype(np.float64) - _unit(q[None]).astype(np.float64), axis=1)
        distance = distance.astype(np.float32)
        expected = sorted(zip(distance.tolist(), vectors.id_N.tolist(), strict=True))[:7]
        assert [match.id for match in answer.matches] == [item for _, item in expected]
        assert [match.distance for match in answer.matches] == pytest.approx([d for d, _ in expected], abs=1e-6)


def test_pictures_in_any_form_are_the_same_query(index, shop):
    path = shop / "03-0.png"
    array = np.array(decode_image(path, ImagePolicy(20)))
    with path.open("rb") as file, Image.open(path) as image:
        forms = [path, str(path), path.read_bytes(), file, image, array, torch.from_numpy(array).permute(2, 0, 1)]
        answers = index.search(forms, num_matches=3)
    assert {tuple(match.id for match in answer.matches) for answer in answers} == {
        tuple(match.id for match in answers[0].matches)
    }
    with pytest.raises(InputError) as error:
        index.search([path, b"no picture", 3.5, shop / "none.png"])
    assert [line.split(":")[0] for line in error.value.problems] == [
        "pictures[1]",
        "pictures[2]",
        repr(str(shop / "none.png")),
    ]


def test_a_filter_keeps_what_it_says_and_names_the_columns(index, shop):
    [answer] = index.search([shop / "07-1.png"], where="price < 3 AND note = 'new'")
    assert {match.label for match in answer.matches} == {"ring 0"}
    [none] = index.search([shop / "07-1.png"], where="price < 0")
    assert none.matches == ()
    assert none.label is None
    with pytest.raises(InputError, match=r"the columns are 'id', .*, 'role', 'article', 'price', 'note'$"):
        index.search([shop / "07-1.png"], where="prize < 3")


def test_one_of_a_class_and_several_pictures_of_one_thing(index, shop):
    [answer] = index.search([shop / "07-1.png"], num_matches=10, one_of_a_class=True)
    labels = [match.label for match in answer.matches]
    assert len(labels) == 10 == len(set(labels))
    answers = index.search([shop / "07-0.png", shop / "07-1.png"], as_one=True, num_matches=2)
    assert len(answers) == 1
    assert {match.id for match in answers[0].matches} == {"A070", "A071"}


def test_new_classes_are_added_without_training(shop, embedder, table_of, tmp_path):
    some = table_of("some.csv", list(range(40)))
    index = Index.build(tmp_path / "i", some, embedder, id_column="article")
    other = Index.open(tmp_path / "i")
    assert index.search([shop / "25-0.png"])[0].label != "ring 25"
    assert index.add(table_of("more.csv", [50])) == 1
    assert index.search([shop / "25-1.png"])[0].matches[0].label == "ring 25"
    # An index that was open sees it, too.
    assert other.search([shop / "25-1.png"])[0].matches[0].label == "ring 25"
    assert len(other) == 41
    with pytest.raises(InputError, match="'A250': there is an item of this id; use replace"):
        index.add(table_of("more.csv", [50, 51]))
    assert len(index) == 41


def test_replace_and_remove(index, shop, table_of):
    text = table_of("changed.csv", [14]).read_text().replace("ring 7", "ring VII").replace("7.5", "99")
    (shop / "changed.csv").write_text(text)
    assert index.replace(shop / "changed.csv") == 1
    first = index.search([shop / "07-0.png"])[0].matches[0]
    assert (first.id, first.label, first.columns["price"]) == ("A070", "ring VII", 99)
    assert len(index) == 60
    assert index.remove(["A070", "A071", "A070"]) == 2
    assert len(index) == 58
    assert "ring VII" not in index.search([shop / "07-0.png"], num_matches=60)[0].votes
    with pytest.raises(InputError, match="'A070': no item of this id"):
        index.remove(["A080", "A070"])
    assert len(index) == 58


def test_what_does_not_fit_is_refused_and_nothing_is_written(shop, embedder, table_of, tmp_path):
    with pytest.raises(InputError, match=r"row 3: '00-1.png': id 'ring 0' is that of .* row 2"):
        Index.build(tmp_path / "i", table_of("twice.csv", [0, 1], "file,id,class,price,note"), embedder, id_column="id")
    with pytest.raises(InputError, match="'number' is no column"):
        Index.build(tmp_path / "i", shop / "shop.csv", embedder, id_column="number")
    with pytest.raises(InputError, match=r"columns 'vector' have names of the index's own; rename them"):
        Index.build(tmp_path / "i", table_of("own.csv", [0, 2], "file,class,vector,price,note"), embedder)
    (shop / "bad.csv").write_text("file,class,article,price,note\nnone.png,a,X,1,\nshop.csv,b,Y,1,\n")
    with pytest.raises(InputError, match="no such file") as error:
        Index.build(tmp_path / "i", shop / "bad.csv", embedder)
    assert len(error.value.problems) == 2
    assert list(tmp_path.iterdir()) == []
    index = Index.build(tmp_path / "i", table_of("few.csv", [0, 2]), embedder, id_column="article")
    with pytest.raises(InputError, match=r"folder: .* exists already"):
        Index.build(tmp_path / "i", shop / "shop.csv", embedder)
    with pytest.raises(InputError, match="columns 'colour' are not in the index; its columns are"):
        index.add(table_of("colour.csv", [4], "file,class,article,colour,note"))
    text = table_of("dear.csv", [4]).read_text().replace(",2.5,", ",dear,")
    (shop / "dear.csv").write_text(text)
    with pytest.raises(InputError, match=r"dear.csv: column 'price': .*the index holds double there"):
        index.add(shop / "dear.csv")
    with pytest.raises(InputError, match="no such file"):
        index.add(shop / "bad.csv")
    assert len(index) == 2


def test_what_is_no_index_is_said(index, shop, tmp_path):
    with pytest.raises(InputError, match="not an index"):
        Index.open(shop)
    about = read_summed(index.folder / "index.json")
    write_summed(index.folder / "index.json", about | {"format": 2})
    with pytest.raises(InputError, match="format 2 is newer than 1, the newest that this mohs reads; use a newer mohs"):
        Index.open(index.folder)
    write_summed(index.folder / "index.json", about)
    other = Embedder.create(ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16), ImagePolicy(size=16), seed=2)
    other.save_pretrained(index.folder / "embedder")
    with pytest.raises(InputError, match="not the embedder that made the vectors; build the index again"):
        Index.open(index.folder)


def test_info_and_check(index):
    info = index.info()
    assert (info["num_items"], info["num_classes"], info["embedding_dim"], info["calibration"]) == (60, 30, 16, None)
    assert info["columns"] == ["id", "file", "path", "class", "role", "article", "price", "note"]
    assert index.check() == []
    assert json.loads(json.dumps(info)) == info


def test_a_part_of_the_built_in_set(tmp_path):
    grey = Embedder.create(ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=8), ImagePolicy(16, 1), seed=0).eval()
    dataset = open_dataset("glyphs", policy=grey.policy)
    some = np.arange(7, 9000, 90)
    index = Index.build(tmp_path / "i", dataset.table.take(some), grey)
    assert len(index) == len(some)
    answers = index.search(dataset.pictures[some], num_matches=1)
    assert [answer.matches[0].id for answer in answers] == [dataset.table.files[i] for i in some]
    assert max(answer.matches[0].distance for answer in answers) < 1e-3


def test_a_bad_picture_far_back_is_named_and_nothing_is_left(shop, embedder, tmp_path):
    picture, folder = (shop / "00-0.png").read_bytes(), tmp_path / "far"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i}.png").write_bytes(picture)
    (folder / "299.png").write_bytes(b"no picture")
    lines = ["file,class", *(f"{i}.png,a" for i in range(300))]
    (folder / "far.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"far\.csv: row 301: '299\.png': not a picture of a known format"):
        Index.build(tmp_path / "i", folder / "far.csv", embedder)
    assert list(tmp_path.iterdir()) == [folder]
