"""Compiled files that a full disk has left torn."""

from pathlib import Path


def remove_torn(error: BaseException) -> Path | None:
    """Remove the .pyc file whose loading raised `error`; return its path, or None if there is none.

    Python 3.11 writes half a file without an error where the disk is full, and reads the file at
    every later start, which ends with `EOFError: marshal data too short`.
    """
    if not isinstance(error, EOFError | ValueError | TypeError):
        return None
    traceback = error.__traceback__
    while traceback is not None:
        path = traceback.tb_frame.f_locals.get("bytecode_path")
        if traceback.tb_frame.f_code.co_name == "get_code" and path:
            Path(path).unlink(missing_ok=True)
            return Path(path)
        traceback = traceback.tb_next
    return None
