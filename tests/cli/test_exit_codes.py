from __future__ import annotations

import pytest

from memstore import errors
from memstore.cli import main as main_module
from memstore.cli.exit_codes import BUG, exit_code

TABLE = {
    errors.UsageError("x"): 2,
    errors.ConfigError("x"): 3,
    errors.InvalidRecordError("x"): 4,
    errors.NotFoundError("x"): 5,
    errors.StorageError("x"): 6,
    errors.CorruptionError("p", offset_bytes=0, length_bytes=1, reason="r"): 7,
    errors.LockedError("x"): 8,
    errors.VersionError("x"): 9,
    errors.UnsupportedError("x"): 9,
    errors.StorageFullError("x"): 10,
    errors.WriterBrokenError("x"): 11,
    errors.ReadOnlyError("x"): 12,
    errors.StoreClosedError("x"): 12,
    errors.HeldError("x"): 13,
    PermissionError(13, "x"): 6,
    BrokenPipeError(): 141,
    KeyboardInterrupt(): 130,
    ZeroDivisionError("x"): 70,
}


@pytest.mark.parametrize(("error", "code"), TABLE.items(), ids=lambda value: type(value).__name__)
def test_every_class_of_error_has_its_number(error, code):
    assert exit_code(error) == code


def test_every_class_of_the_error_tree_is_in_the_table():
    tree = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MemstoreError) and kind is not errors.MemstoreError
    }
    assert tree == {type(error) for error in TABLE if isinstance(error, errors.MemstoreError)}


def test_a_subclass_has_the_number_of_its_nearest_known_class():
    class NewError(errors.CorruptionError):
        pass

    assert exit_code(NewError("p", offset_bytes=0, length_bytes=1, reason="r")) == 7


def _fail_with(monkeypatch, error):
    def run(_arguments):
        raise error

    monkeypatch.setattr(main_module, "_run", run)


@pytest.mark.parametrize(("error", "code"), TABLE.items(), ids=lambda value: type(value).__name__)
def test_main_returns_the_number_and_says_at_most_one_line(monkeypatch, capsys, error, code):
    _fail_with(monkeypatch, error)
    monkeypatch.setattr(main_module, "_discard_output", lambda: None)
    assert main_module.main([]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == (0 if isinstance(error, BrokenPipeError) else 1)


def test_a_bug_shows_its_traceback_only_with_debug(monkeypatch, capsys):
    _fail_with(monkeypatch, ZeroDivisionError("oops"))
    assert main_module.main([]) == BUG
    assert "Traceback" not in capsys.readouterr().err
    assert main_module.main(["--debug"]) == BUG
    assert "Traceback" in capsys.readouterr().err


def test_a_message_cannot_steer_the_terminal(monkeypatch, capsys):
    _fail_with(monkeypatch, errors.UsageError("bad \x1b[2J thing\nsecond line"))
    assert main_module.main([]) == 2
    assert capsys.readouterr().err == "memstore: bad \\x1b[2J thing second line\n"
