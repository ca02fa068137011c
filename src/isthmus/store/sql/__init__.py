"""The store in SQL: one SQLite file, or one PostgreSQL database. One connection does everything, in order.

To add a noun:

1. its records and questions go into `store/records.py`, and into `store/memory.py`;
2. `store/sql/NOUN.py` names its tables with `noun(...)` and has a class over `Lines` (over `Database` where no change brings
   lines of the audit log along). Every change runs inside one `with self._write():`, which commits or leaves everything as it
   was; `self._add_lines(notes)` comes last in it. Inserts begin with `self._insert(TABLE)`, reads with `self._all` or
   `self._first`. What may be used once or lets somebody in stays out of backups: the class names those tables in `one_time`;
3. `store/sql/migrations/versions/NOUN.py` makes the tables, in both engines, with the helpers of `migrations/columns.py`.
   `down_revision` is the newest revision that it needs; two that stand on the same one are both run. `head`, `heads` and `base`
   are words of alembic and name no revision. A migration that has been in a release is never changed;
4. the class becomes a base of `SqlStore` below.

The contract test runs every question against memory, SQLite and PostgreSQL.
"""

from __future__ import annotations

from isthmus.store.server import Server
from isthmus.store.sql.agreements import Agreements
from isthmus.store.sql.datasets import Datasets
from isthmus.store.sql.heads import Heads
from isthmus.store.sql.jobs import Jobs
from isthmus.store.sql.keys import Keys
from isthmus.store.sql.replies import Replies
from isthmus.store.sql.users import Users

__all__ = ["Server", "SqlStore"]


class SqlStore(
    Keys,
    Datasets,
    Jobs,
    Heads,
    Replies,
    Users,
    Agreements,
):
    """The store of a node at a path, or in the database of a server."""
