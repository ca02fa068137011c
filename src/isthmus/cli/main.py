"""The program `isthmus`. Its top loop turns whatever happens into one sentence, one hint and an exit code."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from isthmus.base.errors import IsthmusError, LocalError
from isthmus.cli.output import Settings, common

BAD_ARGUMENTS, NOT_ALLOWED, BUG, INTERRUPTED = 4, 2, 5, 130


COMMANDS = (
    *("init", "serve", "health", "doctor", "version", "partner", "dataset", "grant", "project", "job"),
    *("approval", "audit", "backup", "restore", "relay", "user", "token", "sign-in", "sign-out", "try"),
    *("demo", "fleet", "leader", "helper"),
)
SIGN_IN = frozenset({"sign_in", "wrong_sign_in", "second_factor", "locked_out", "role"})


class _Commands(click.Group):
    """Loads the file of a command when it is asked for: one noun need not wait for the imports of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        match cmd_name:
            case "init":
                from isthmus.cli.node import init

                return init
            case "serve":
                from isthmus.cli.serve import serve

                return serve
            case "health":
                from isthmus.cli.health import health

                return health
            case "doctor":
                from isthmus.cli.node import doctor

                return doctor
            case "version":
                from isthmus.cli.node import version

                return version
            case "partner":
                from isthmus.cli.partner import partner

                return partner
            case "dataset":
                from isthmus.cli.dataset import dataset

                return dataset
            case "job":
                from isthmus.cli.job import job

                return job
            case "grant":
                from isthmus.cli.grant import grant

                return grant
            case "project":
                from isthmus.cli.project import project

                return project
            case "approval":
                from isthmus.cli.approval import approval

                return approval
            case "audit":
                from isthmus.cli.audit import audit

                return audit
            case "backup":
                from isthmus.cli.backup import backup

                return backup
            case "restore":
                from isthmus.cli.backup import restore

                return restore
            case "user":
                from isthmus.cli.user import user

                return user
            case "token":
                from isthmus.cli.token import token

                return token
            case "sign-in":
                from isthmus.cli.sign_in import sign_in

                return sign_in
            case "sign-out":
                from isthmus.cli.sign_in import sign_out

                return sign_out
            case "relay":
                from isthmus.cli.relay import relay

                return relay
            case "helper":
                from isthmus.cli.helper import helper

                return helper
            case "try":
                from isthmus.cli.try_ import try_

                return try_
            case "fleet":
                from isthmus.cli.fleet import fleet

                return fleet
            case "leader":
                from isthmus.cli.leader import leader

                return leader
            case "demo":
                from isthmus.cli.demo import demo

                return demo
        return None


@click.group(cls=_Commands)
@common
def cli() -> None:
    """Joint models between institutions, while raw data never leaves its owner."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    settings = Settings()
    try:
        code = cli.main(list(arguments), prog_name="isthmus", obj=settings, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return BAD_ARGUMENTS
    except click.ClickException as error:
        error.show()
        return BAD_ARGUMENTS
    except (click.Abort, KeyboardInterrupt):
        settings.say("Stopped.", "已停止。")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except IsthmusError as error:
        _tell(settings, error)
        return NOT_ALLOWED if error.code in SIGN_IN else BUG if error.code == "bug" else error.exit_code
    except Exception as error:  # noqa: BLE001 - a top loop
        trace_id = secrets.token_hex(6)
        log = Path(tempfile.gettempdir()) / f"isthmus-{trace_id}.log"
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.write_text(f"{type(error).__name__}\n{frames}", encoding="utf-8")
        _tell(settings, LocalError("bug", why=f"{type(error).__name__}, {log}"))
        return BUG


def _tell(settings: Settings, error: IsthmusError) -> None:
    click.echo(f"{error.sentence(settings.language)}  [{error.code}]", err=True)
    click.echo(error.hint(settings.language), err=True)


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
