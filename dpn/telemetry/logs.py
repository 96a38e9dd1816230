"""One JSON object a line, on stderr and, where a folder is given, in a file of the process's name.

The file may be moved away at any time (logrotate): it is opened anew. A log that cannot be written stops nothing:
its lines go to stderr, which is told why. What libraries, threads and Python's warnings have to say takes the same
form.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from dpn.telemetry.settings import LogSettings


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """As if the package were not installed, as long as another one looks whether it is."""
    there = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if there is not None:
            sys.modules[package] = there


with _hidden("rich"):  # structlog loads it for terminals, which nothing of ours logs to: 4 MB in every worker
    import structlog

Log = structlog.stdlib.BoundLogger

TELL_AGAIN_SECONDS = 60.0
MAX_LOST_CHARACTERS = 1000


def configure_logs(settings: LogSettings, process: str, *, node: str) -> Log:
    """Sets up logging for the process and returns its log. Repeating it replaces the earlier set-up."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _sign(node, process),
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
    )
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in _handlers(settings, process):
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.captureWarnings(True)
    threading.excepthook = _log_uncaught
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    log: Log = structlog.stdlib.get_logger(process)
    return log


def _sign(node: str, process: str) -> Callable[[Any, str, Any], Any]:
    """Every line says whose it is, a library's too; uvicorn's copy of its message for terminals is left out."""

    def sign(_logger: Any, _method: str, event: Any) -> Any:
        event.pop("color_message", None)
        return {"node": node, "process": process, **event}

    return sign


def _handlers(settings: LogSettings, process: str) -> list[logging.Handler]:
    stderr = _Stderr(sys.stderr)
    if settings.directory is None:
        return [stderr]
    with suppress(OSError):  # told of with the first line
        settings.directory.mkdir(parents=True, exist_ok=True)
    file = _File(settings.directory / f"{process}.json", None if settings.stderr else stderr)
    return [stderr, file] if settings.stderr else [file]


class _TellsOnStderr(logging.Handler):
    """Tells of lines that could not be written, once a minute, instead of a stack trace for each."""

    _told_at = -math.inf

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        if time.monotonic() - self._told_at < TELL_AGAIN_SECONDS:
            return
        self._told_at = time.monotonic()
        problem = {
            "event": "a log line could not be written",
            "level": "error",
            "error": repr(sys.exc_info()[1]),
            "handler": repr(self),
            "lost": repr(record.msg)[:MAX_LOST_CHARACTERS],
        }
        with suppress(OSError, ValueError):
            print(json.dumps(problem), file=sys.stderr, flush=True)


class _Stderr(_TellsOnStderr, logging.StreamHandler[Any]):
    pass


class _File(_TellsOnStderr, logging.handlers.WatchedFileHandler):
    """Opened anew after every failure. What could not be written goes to `instead`, if it does not anyway."""

    def __init__(self, path: Path, instead: logging.Handler | None) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._instead = instead

    def _open(self) -> TextIOWrapper:
        """A line that a full disk or a crash has cut off spoils no other."""
        stream = super()._open()
        with suppress(OSError), Path(self.baseFilename).open("rb") as written:
            written.seek(-1, os.SEEK_END)  # fails where nothing was written yet
            if written.read(1) != b"\n":
                stream.write("\n")
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.reopenIfNeeded()
            logging.FileHandler.emit(self, record)
        except OSError:  # to open it is outside what logging itself guards
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        super().handleError(record)
        stream, self.stream = self.stream, None
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
        if self._instead is not None:
            self._instead.setFormatter(self.formatter)
            self._instead.handle(record)


def _to_json(event: dict[str, Any], default: Callable[[Any], Any] | None = None, **_: Any) -> str:
    """Escapes everything outside ASCII: a hostile name cannot forge a line or upset a terminal."""
    try:
        return json.dumps(event, default=str, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps({str(name): repr(value) for name, value in event.items()}, ensure_ascii=True)


def _log_uncaught(uncaught: threading.ExceptHookArgs) -> None:
    thread = uncaught.thread.name if uncaught.thread is not None else "?"
    logging.getLogger("threads").error("the thread %s broke off", thread, exc_info=uncaught.exc_value)
