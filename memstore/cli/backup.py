"""``memstore backup``: take, list, verify and prune backups."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.backup.keeping import KeepPolicy
from memstore.backup.points import list_backups
from memstore.backup.prune import prune_backups
from memstore.backup.report import BackupReport
from memstore.backup.verify import VerifyReport, verify_backup
from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import NOTHING_FOUND, OK, exit_code_of
from memstore.cli.opening import note, open_for_reading, open_for_writing, without_log
from memstore.cli.output import Output
from memstore.cli.progress import progress_bar
from memstore.cli.render import print_document, print_rows
from memstore.clock import WallClock
from memstore.errors import CorruptionError
from memstore.fs.local import LocalStorage

_COLUMNS = ("name", "agents", "records", "files", "bytes", "follows", "damaged", "error")
_DESCRIPTION = """\
Backups are plain stores in a directory of their own, linked to each other where nothing has changed, with the lanes
between them, so that any moment can be restored (`memstore restore`)."""
_CREATE = """\
Take a backup while agents write. What has not changed since the last one is linked to it and not copied; the first one
copies everything. Exits with 7 if files of the store are damaged: they are in the backup as they are."""
_VERIFY = """\
Restore a backup to a scratch directory, read every record of it, and hold files and counts against its list. Exits
with 7 if something is not as it was backed up."""

_PRUNE = """\
Of so many days, weeks and months the last backup stays, the newest of all, and the newest of a store without damage.
Lanes stay from the oldest of the daily ones on: any moment since then can be restored. With --root it is told."""


def add_parser(commands: Any) -> None:
    """Declare the commands."""
    backup = add_command(commands, "backup", run_help, "take, list, verify and prune backups", description=_DESCRIPTION)
    kinds = backup.add_subparsers(metavar="ACTION", title="actions", required=True)
    create = add_command(kinds, "create", run_create, "take a backup", description=_CREATE)
    _add_destination(create)
    create.add_argument("--anew", action="store_true", help="copy everything, as after damage in older backups")
    listing = add_command(kinds, "list", run_list, "show the backups")
    _add_destination(listing)
    verify = add_command(kinds, "verify", run_verify, "prove that a backup can be restored", description=_VERIFY)
    _add_destination(verify)
    verify.add_argument("--point", metavar="NAME", help="which one; the newest unless given")
    verify.add_argument("--scratch", metavar="DIR", help="where there is room for a whole store; DEST unless given")
    verify.add_argument("--compare", action="store_true", help="hold the records against those of --root, too")
    prune = add_command(kinds, "prune", run_prune, "remove old backups", description=_PRUNE)
    _add_destination(prune)
    for span, default in (("daily", 7), ("weekly", 4), ("monthly", 12)):
        prune.add_argument(f"--keep-{span}", type=int, metavar="N", default=default, help=f"default: {default}")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    detach = add_command(kinds, "detach", run_detach, "keep no lanes for backups that are gone for good")
    _add_destination(detach)


def _add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", metavar="DEST", help="the directory of the backups")


def run_help(args: argparse.Namespace) -> int:
    """Nothing was chosen: argparse refuses before this."""
    raise AssertionError(args)


def run_create(args: argparse.Namespace) -> int:
    """Take one; prints what it did."""
    with open_for_writing(args, create=False) as store, progress_bar("backing up") as progress:
        report = store.backup(args.destination, anew=args.anew, progress=progress)
    print_document(Output.of(args), report.as_dict())
    _tell(report)
    return exit_code_of(CorruptionError) if report.damage else OK


def _tell(report: BackupReport) -> None:
    note(
        f"{report.records:,} records of {report.agents:,} agents in {report.path}: {report.files:,} files, "
        f"{report.copied_bytes:,} bytes copied"
    )
    if report.gap is not None:
        note("not every moment since the backup before can be restored: the store could not keep its lanes that long")
    for error in report.damage:
        note(f"damaged in the store, and so in the backup: {error}")


def run_list(args: argparse.Namespace) -> int:
    """Print them."""
    found = list_backups(LocalStorage(), args.destination)
    print_rows(Output.of(args), _COLUMNS, [each.as_dict() for each in found])
    return OK


def run_verify(args: argparse.Namespace) -> int:
    """Verify one; prints what was found."""
    with progress_bar("verifying") as progress, without_log():
        if args.compare:
            with open_for_reading(args) as store:
                report = store.verify_backup(
                    args.destination, args.point, scratch=args.scratch, compare=True, progress=progress
                )
        else:  # without --compare no store is needed: it may be gone
            report = verify_backup(
                LocalStorage(),
                args.destination,
                clock=WallClock(),
                point=args.point,
                scratch=args.scratch,
                progress=progress,
            )
    print_document(Output.of(args), report.as_dict())
    _tell_verified(report)
    return OK if report.is_good else exit_code_of(CorruptionError)


def _tell_verified(report: VerifyReport) -> None:
    if report.compared is not None:
        note(
            f"{report.compared:,} records compared with the store; it has {report.differing:,} of them no longer, or "
            "otherwise"
        )
    if report.is_good:
        note(f"good: {report.records:,} records of {report.agents:,} agents, {report.files:,} files")
        return
    for error in report.damage:
        note(str(error))
    wrong = len(report.damage) + len(report.findings) + len(report.miscounted)
    note(f"{report.name} is not as it was taken: {wrong:,} finding(s); `memstore backup create --anew` takes a new one")


def run_prune(args: argparse.Namespace) -> int:
    """Remove what is not kept; prints what was done, or would be."""
    policy = KeepPolicy(daily=args.keep_daily, weekly=args.keep_weekly, monthly=args.keep_monthly)
    if args.root is None or args.dry_run:
        report = prune_backups(LocalStorage(), args.destination, policy, dry_run=args.dry_run)
    else:
        with open_for_writing(args, create=False) as store:
            report = store.prune_backups(
                args.destination,
                keep_daily=args.keep_daily,
                keep_weekly=args.keep_weekly,
                keep_monthly=args.keep_monthly,
            )
    print_document(Output.of(args), report.as_dict())
    verb = "removed" if report.done else "to be removed"
    note(f"{len(report.removed)} backup(s) {verb}, {len(report.kept)} kept")
    for name in report.unreadable:
        note(f"{name}: its list is damaged; it was left alone: look at it, and remove its directory")
    return OK


def run_detach(args: argparse.Namespace) -> int:
    """Let go; 1 where the store knew nothing of the place."""
    with open_for_writing(args, create=False) as store:
        known = store.detach_backups(args.destination)
    note("no lanes are kept for it any more" if known else f"the store keeps nothing for {args.destination}")
    return OK if known else NOTHING_FOUND
