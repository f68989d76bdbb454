"""Files of embeddings and classes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_embedded


def test_files_of_embeddings(tmp_path):
    x, labels = tmp_path / "x.npy", tmp_path / "y.csv"
    np.save(x, np.arange(6, dtype=np.float32).reshape(3, 2))
    labels.write_text("file,Label\na,u\nb,v\nc,u\n")
    found = read_embedded(x, labels)
    assert (found.x_ND.tolist(), found.labels.tolist()) == ([[0, 1], [2, 3], [4, 5]], ["u", "v", "u"])


def test_classes_of_every_form_are_read_as_in_evaluate(tmp_path):
    x = tmp_path / "x.npy"
    np.save(x, np.arange(6, dtype=np.float32).reshape(3, 2))
    np.save(tmp_path / "integers.npy", np.array([7, 8, 7]))
    np.save(tmp_path / "whole.npy", np.array([7.0, 8.0, 7.0]))
    np.save(tmp_path / "names.npy", np.array(["u", "v", "u"]))
    (tmp_path / "y.txt").write_text("u\nv\nu\n")
    (tmp_path / "both.csv").write_text("label,class\n1,u\n1,v\n1,u\n")
    pq.write_table(pa.table({"Y": ["u", "v", "u"]}), tmp_path / "y.parquet")
    for name, expected in {
        "integers.npy": ["7", "8", "7"],
        "whole.npy": ["7", "8", "7"],
        "names.npy": ["u", "v", "u"],
        "y.txt": ["u", "v", "u"],
        "both.csv": ["u", "v", "u"],
        "y.parquet": ["u", "v", "u"],
    }.items():
        assert read_embedded(x, tmp_path / name).labels.tolist() == expected, name


def test_files_of_embeddings_that_cannot_be_read(tmp_path):
    x, labels, text = tmp_path / "x.npy", tmp_path / "y.csv", tmp_path / "z.csv"
    np.save(x, np.ones((3, 2)))
    np.save(tmp_path / "scalar.npy", np.float64(3))
    np.savez(tmp_path / "x.npz", a=np.ones((3, 2)))
    labels.write_text("class\na\nb\na\n")
    (tmp_path / "none.csv").write_text("name\na\nb\na\n")
    (tmp_path / "two.csv").write_text("label,y\na,1\nb,1\na,1\n")
    np.save(tmp_path / "float.npy", [0.5, 1.0, 0.5])
    (tmp_path / "short.csv").write_text("class\na\nb\n")
    text.write_text("1,2\n")
    cases = [
        (tmp_path / "no.npy", labels, f"{tmp_path}/no.npy: no such file; check the path"),
        (x, tmp_path / "no.csv", f"{tmp_path}/no.csv: no such file; check the path"),
        (tmp_path, labels, f"{tmp_path}: a folder; give a file"),
        (
            x,
            tmp_path / "none.csv",
            f"{tmp_path}/none.csv: no column 'class'; the columns are 'name'; name the right one 'class'",
        ),
        (
            x,
            tmp_path / "two.csv",
            f"{tmp_path}/two.csv: columns 'label', 'y' may hold the classes; name the right one 'class'",
        ),
        (
            x,
            tmp_path / "float.npy",
            f"{tmp_path}/float.npy: float64 of shape (3,) cannot be classes; give integers or text, one for each row",
        ),
        (
            x,
            tmp_path / "short.csv",
            f"labels: {tmp_path}/short.csv has 2 classes for the 3 rows of {x}; give one for each row, in the same "
            "order",
        ),
        (text, labels, f"{text}: not a .npy file; write the numbers with numpy.save"),
        (
            tmp_path / "scalar.npy",
            labels,
            f"{tmp_path}/scalar.npy: holds one number; give a table of numbers, [items, dimensions]",
        ),
        (
            tmp_path / "x.npz",
            labels,
            f"{tmp_path}/x.npz: an archive, perhaps of several arrays; write the one of numbers with numpy.save",
        ),
    ]
    for embeddings, classes, line in cases:
        with pytest.raises(InputError) as error:
            read_embedded(embeddings, classes)
        assert error.value.problems == (line,)


def test_what_else_a_table_says(tmp_path):
    x = tmp_path / "x.npy"
    np.save(x, np.eye(3, dtype=np.float16))
    (tmp_path / "y.csv").write_text("path,label,role,group\na.png,u,catalog,\nb.png,v,,s1\nc.png,u,sample,s2\n")
    found = read_embedded(x, tmp_path / "y.csv")
    assert found.x_ND.dtype == np.float32
    assert found.files.tolist() == ["a.png", "b.png", "c.png"]
    assert (found.roles.tolist(), found.groups.tolist()) == (["catalog", "sample", "sample"], ["", "s1", "s2"])
    assert found.take(np.array([2, 0])).groups.tolist() == ["s2", ""]
    np.save(x, np.eye(3) / 3)
    assert read_embedded(x, tmp_path / "y.csv").x_ND.tolist() == (np.eye(3) / 3).tolist()


def test_a_folder_of_pictures_holds_the_classes(tmp_path):
    for name in ("u/1.png", "u/2.png", "v/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    np.save(tmp_path / "x.npy", np.eye(3))
    found = read_embedded(tmp_path / "x.npy", tmp_path)
    assert (found.labels.tolist(), found.files.tolist()) == (["u", "u", "v"], ["u/1.png", "u/2.png", "v/1.png"])
