"""A repair: a good copy takes the place of one bad object, by the same way and with the same proof as a put."""

from __future__ import annotations

import logging
from typing import Any

from dpn.s3.plan import plan_parts, same_plan
from dpn.storage.errors import ObjectReplaced
from dpn.storage.evidence import Proven
from dpn.storage.s3.put import Put
from dpn.storage.s3.upload import Written
from dpn.storage.settings import COLD_CLASSES
from dpn.storage.store import Replaced
from dpn.storage.stored_object import StoredObject
from models.manifests import Receipt

_log = logging.getLogger(__name__)


class Replacement(Put):
    """One call of Store.replace; see there for what it promises."""

    def __init__(self, *arguments: Any, bad: StoredObject | None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._bad = bad
        self._replacing: StoredObject | None = None

    def replace(self) -> Replaced:
        receipt = self.run()
        kept = self._replacing.version_id if self._replacing else None
        if kept and kept != receipt.version_id:
            _log.warning("%s was replaced; its bad version %s stays in the bucket's history", receipt.url, kept)
            return Replaced(receipt, kept)
        return Replaced(receipt)

    def _existing(self) -> StoredObject | None:
        found = self._find()
        if found is None or self._bad is None or _identity(found) != _identity(self._bad):
            self._replacing = None
            return found
        self._replacing = found
        return None

    def _condition(self) -> dict[str, Any]:
        if self._replacing is None:
            return super()._condition()
        etag = self._replacing.etag
        return {"IfMatch": f'"{etag}"'} if etag and self._capabilities.replaces_on_condition else {}

    def _adopt(self, existing: StoredObject) -> Receipt:
        """Its checksums may be of the time before it went bad: only what is read proves it."""
        default = plan_parts(self._source.size, self._bucket.settings.part_size_bytes)
        digests = self._digest(same_plan(self._source.size, existing.claimed_part_size) or default)
        cold = existing.storage_class in COLD_CLASSES
        same_size = existing.size == digests.plan.size
        judgement = self._judge_by_reading(existing) if same_size and not cold else self._judge(existing, digests)
        self._abort_upload()
        if not isinstance(judgement, Proven):
            raise ObjectReplaced(
                f"{self._bucket.url(self._key)} is not the object that was found bad, nor a good copy: "
                f"{judgement.why}. Check it again"
            )
        self._report(self._source.size)
        return self._bucket.receipt(self._key, existing, digests, judgement)

    def _withdraw(self, stored: StoredObject, written: Written) -> str:
        # Removing it would leave nothing. It is no worse than what was there.
        return "it stays, and is replaced again"


def _identity(stored: StoredObject) -> tuple[object, ...]:
    """What a rewritten object differs in. The time is needed too: bytes rot without their entity tag changing."""
    return stored.etag, stored.version_id, stored.size, stored.modified_at
