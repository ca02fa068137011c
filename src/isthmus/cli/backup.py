"""backup, restore: a copy of the node in one file, and a node from one."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import click

from isthmus.base import files
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigError, LocalError
from isthmus.cli.output import Settings, common, pass_settings, table
from isthmus.service.archive import unpack
from isthmus.service.audit import Audit
from isthmus.service.backup import Backups, need_file
from isthmus.service.backup import restore as put_back
from isthmus.store.folder import NodeFolder
from isthmus.store.sql import SqlStore


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common
@pass_settings
def backup(settings: Settings, file: Path) -> None:
    """Write a backup of the node to FILE, while it runs or not. Keys and tokens are never in it: keep those apart.

    Before it says that it is done, the file is read again and checked.
    """
    if file.exists():
        raise ConfigError("already_there", what=str(file))
    part = file.with_name(file.name + ".part")
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            try:
                client = settings.client()
            except LocalError as error:
                if error.code != "not_running":
                    raise
                with asyncio.run(_make(settings.folder)) as archive:
                    shutil.copyfileobj(archive, out)
            else:
                with client:
                    client.backup(out)
            out.flush()
            os.fsync(out.fileno())
        manifest = unpack(part)
        part.rename(file)
    except OSError as error:
        raise files.disk_trouble(file, error.strerror or "unknown") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    shown = {"file": str(file), "size_bytes": file.stat().st_size, "party": manifest.party,
             "made_at": manifest.made_at, "files": len(manifest.files)}  # fmt: skip
    settings.show(shown, lambda: table(("field", "value"), list(shown.items())))
    settings.say(
        "Keys are not in it. Keep a copy of the folder keys and of tls/key.pem in another place.",
        "备份不含密钥。请将 keys 目录与 tls/key.pem 另存于其他位置。",
    )


async def _make(folder: NodeFolder) -> BinaryIO:
    need_file(folder.config())
    with folder.locked():
        store = SqlStore(folder.place())
        audit = Audit(folder.config().party, folder.party_key(), store, SystemClock())
        try:
            return await Backups(folder, store, audit, SystemClock()).make(folder.config().party)
        finally:
            store.close()


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key", help="Public key of the party (64 hexadecimal figures), if it was changed after the backup."
)
@common
@pass_settings
def restore(settings: Settings, file: Path, key: str | None) -> None:
    """Make a node from the backup FILE in an empty folder: isthmus restore FILE --home NEW"""
    manifest, missing = put_back(file, settings.home.absolute(), key)
    shown = {"home": str(settings.home.absolute()), "party": manifest.party, "made_at": manifest.made_at,
             "files": len(manifest.files), "to_put_back": [str(path) for path in missing]}  # fmt: skip
    settings.show(shown, lambda: table(("field", "value"), list(shown.items())))
    for path in missing:
        settings.say(f"Put back, with mode 0600: {path}", f"请放回并设权限 0600：{path}")
    settings.say(
        "Then: isthmus serve. Jobs that had not ended count as failed; propose them again.",
        "然后执行：isthmus serve。未结束的作业记为失败，请重新发起。",
    )
