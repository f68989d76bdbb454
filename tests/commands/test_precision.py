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
