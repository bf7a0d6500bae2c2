"""SQL over a store's own files: DuckDB asks, memstore hands out the lines; nothing is copied and nothing written."""

from memstore.sql.columns import COLUMNS, VIEW, Column
from memstore.sql.database import connect
from memstore.sql.query import Answer, ask

__all__ = ["COLUMNS", "VIEW", "Answer", "Column", "ask", "connect"]
