import csv
import io
import json

from memstore.exporters.csv import COLUMNS, JSON_COLUMNS, TEXT_COLUMNS, export_csv


def export(store, **options):
    out = io.BytesIO()
    count = export_csv(store, out, **options)
    return count, list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))


def test_every_value_can_be_read_back_exactly(store):
    bot = store.agent('=cmd "x",1')
    parent = bot.append(content='=1+1\r\n"quoted", and so on', tags=["@a"], context={"k": "-1"})
    bot.append(
        input="hi", response={"content": [1.5, None], "success": True}, parent=parent, metadata={"retention_days": 3}
    )
    count, rows = export(store)
    assert count == 2
    for row, line in zip(rows, bot.lines(), strict=True):
        record = json.loads(line)
        back = {name: row[name] for name in TEXT_COLUMNS if row[name]}
        back |= {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name]}
        assert back == record
        assert row["other"] == ""


def test_an_empty_store_gives_the_header_alone(store):
    out = io.BytesIO()
    assert export_csv(store, out) == 0
    assert out.getvalue() == (",".join(COLUMNS) + "\r\n").encode()


def test_agents_and_filters_choose(store):
    store.agent("a").append(content=1)
    store.agent("b").append(content=2, importance="HIGH")
    count, rows = export(store, agents="b", min_importance="HIGH")
    assert count == 1
    assert rows[0]["content"] == "2"
