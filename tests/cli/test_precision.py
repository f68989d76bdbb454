"""`mohs fix` on tables that list a file under several classes."""

import pytest
from PIL import Image

from mohs.data.multi_label import MULTI_LABEL
from mohs.data.reading import read_table
from mohs.errors import DataWarning

ROWS = "a1,gold\na2,gold\na3,gold\nshared,gold\nb1,silver\nshared,silver\nc1,steel\nc2,steel\n"


@pytest.mark.parametrize("how", MULTI_LABEL)
def test_check_writes_what_fix_makes_of_it(run_cli, tmp_path, how) -> None:
    for i, file in enumerate(["a1", "a2", "a3", "shared", "b1", "c1", "c2"]):
        Image.new("RGB", (9, 9), (i, 20 * i, 99)).save(tmp_path / f"{file}.png")
    path = tmp_path / "t.csv"
    path.write_text("file,class\n" + ROWS.replace(",", ".png,"))
    fixes, new = tmp_path / "fixes.csv", tmp_path / "new.csv"
    answer = run_cli("check", path, "--multi-label", how, "--fixes", fixes)
    assert answer.code == (2 if how == "error" else 0)
    answer = run_cli("fix", path, fixes, "--out", new)
    if how == "error":
        assert answer.code == 2
        assert answer.err == [
            f"mohs: {fixes}: file 'shared.png' of {path} is still under 'gold' and 'silver'; drop one of the rows, or "
            "merge the classes"
        ]
        return
    assert answer.code == 0
    with pytest.warns(DataWarning):
        wanted = read_table(path, multi_label=how)
    found = read_table(new)
    assert (found.files, found.labels.tolist()) == (wanted.files, wanted.labels.tolist())
    assert run_cli("check", new, "--json").code == 0


def test_fix_tells_of_new_classes_and_of_rows_without_effect(run_cli, tmp_path) -> None:
    path, fixes, new = (tmp_path / name for name in ("t.csv", "fixes.csv", "new.csv"))
    path.write_text("file,class\n1.png,ring\n2.png,ring\n3.png,watch\n4.png,watch\n")
    again = "2.png,ring,relabel,watch\n"
    fixes.write_text(f"file,class,suggestion,to\n1.png,ring,relabel,wacth\n3.png,watch,relabel,watch\n{again}{again}")
    answer = run_cli("fix", path, fixes, "--out", new)
    assert answer.code == 0
    assert answer.err[:4] == [
        "joined 0 classes to others, relabelled 2 pictures, left out 0",
        f"skipped: 1 row of {fixes}, given twice",
        f"left alone: 1 row of {fixes}, whose new class is the old one",
        f"warning: classes that {path} did not have: 1 ('wacth', like 'watch'); correct 'to' in {fixes} if a name is "
        "mistyped",
    ]
    fixes.write_text("file,class,suggestion,to\n" + "".join(f"{row},drop,\n" for row in path.read_text().split()[1:]))
    new.unlink()
    answer = run_cli("fix", path, fixes, "--out", new)
    assert answer.code == 2
    assert answer.err == [f"mohs: {fixes}: all 4 pictures of {path} are left out; drop fewer of them"]
    assert not new.exists()
