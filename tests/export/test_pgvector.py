import json
from pathlib import Path

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.export.pgvector import export_to_pgvector
from mohs.index.index import Index

sqlglot = pytest.importorskip("sqlglot")


def test_the_sql_makes_the_table_of_the_items(index: Index, tmp_path: Path) -> None:
    assert export_to_pgvector(index, tmp_path / "shop.sql", table='my "shop"') == 12
    exp = sqlglot.exp
    parsed = sqlglot.parse((tmp_path / "shop.sql").read_text(), dialect="postgres")
    create = next(each for each in parsed if isinstance(each, exp.Create) and each.kind == "TABLE")
    assert create.this.this.name == 'my "shop"'
    kinds = {each.name: each.args["kind"].sql("postgres") for each in create.find_all(exp.ColumnDef)}
    assert {name: kind.lower() for name, kind in kinds.items()} == {
        "id": "text",
        "file": "text",
        "path": "text",
        "class": "text",
        "role": "text",
        "article": "text",
        "price": "double precision",
        "note": "text",
        "vector": "vector(5)",
    }
    inserts = [each for each in parsed if isinstance(each, exp.Insert)]
    names = [each.name for each in inserts[0].this.expressions]
    rows = [
        dict(zip(names, row.expressions, strict=True))
        for insert in inserts
        for row in insert.expression.find_all(exp.Tuple)
    ]
    items = index.snapshot().rows.to_pylist()
    assert [row["id"].name for row in rows] == [item["id"] for item in items]
    notes = [None if isinstance(row["note"], exp.Null) else row["note"].name for row in rows]
    assert notes == [item["note"] for item in items]
    assert [row["price"].sql() for row in rows if row["id"].name == "A03"] == ["NULL"]
    found = np.array([json.loads(row["vector"].name) for row in rows], np.float32)
    np.testing.assert_array_equal(found, index.vectors().x_ND)
    assert len(parsed) == 6  # SET, BEGIN, the extension, the table, one insert, COMMIT


def test_bad_names(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"table: 'x+' is no name of 1 to 63 bytes; use a shorter one"):
        export_to_pgvector(index, tmp_path / "shop.sql", table="x" * 64)
    assert not list(tmp_path.iterdir())
