"""One JSON object a line, on stderr and, where a folder is given, in a file of the process's name.

The file may be moved away at any time (logrotate): it is opened anew. A log that cannot be written stops nothing.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
from collections.abc import Callable
from typing import Any

import structlog

from dpn.settings import LogSettings

Log = structlog.stdlib.BoundLogger


def configure_logs(settings: LogSettings, process: str, *, node: str) -> Log:
    """Sets up logging for the process and answers its log. Repeating it replaces the earlier set-up."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
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
    log: Log = structlog.stdlib.get_logger(process).bind(node=node, process=process)
    return log


def _handlers(settings: LogSettings, process: str) -> list[logging.Handler]:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.directory is not None:
        settings.directory.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.WatchedFileHandler(settings.directory / f"{process}.json", encoding="utf-8", delay=True)
        )
    return handlers


def _to_json(event: dict[str, Any], default: Callable[[Any], Any] | None = None, **_: Any) -> str:
    """Escapes everything outside ASCII: a hostile name cannot forge a line or upset a terminal."""
    return json.dumps(event, default=str, ensure_ascii=True)
