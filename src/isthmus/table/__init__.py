"""A party's own table: reading it from CSV or Parquet, ids, kinds of columns, profile. Stays inside the party."""

from isthmus.table.files import file_digest
from isthmus.table.ids import IdForm, match_key
from isthmus.table.profile import ColumnProfile, profile
from isthmus.table.reader import ReadOptions, read_ids, read_table
from isthmus.table.table import CategoryColumn, Column, ColumnSchema, NumericColumn, Schema, Table

__all__ = [
    "CategoryColumn",
    "Column",
    "ColumnProfile",
    "ColumnSchema",
    "IdForm",
    "NumericColumn",
    "ReadOptions",
    "Schema",
    "Table",
    "file_digest",
    "match_key",
    "profile",
    "read_ids",
    "read_table",
]
