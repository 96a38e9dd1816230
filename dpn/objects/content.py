"""An object's bytes on their way: counted, digested, held to what they must be before anybody sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dpn.errors import SourceChanged, StoreMismatch
from dpn.objects.keys import shown
from dpn.objects.root import WriteOptions
from dpn.s3.checksums import RunningDigests


class ObjectContent:
    """Goes once through `chunks`."""

    def __init__(self, key: str, chunks: Iterable[bytes], size: int, how: WriteOptions) -> None:
        self._key = key
        self._chunks = chunks
        self._size = size
        self._how = how
        self._digests = RunningDigests({*how.algorithms, *how.expected})
        self.failure: Exception | None = None
        """What `chunks` raised, or what was wrong with them: none of the root's that they go to."""

    def __iter__(self) -> Iterator[bytes]:
        """Raises SourceChanged as soon as there are too many, or at the end too few; Interrupted."""
        try:
            yield from self._checked()
        except Exception as error:
            self.failure = error
            raise

    def _checked(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._how.cancellation.check()
            if self._digests.size + len(chunk) > self._size:
                raise SourceChanged(f"{shown(self._key)} has more than the {self._size} bytes that it had")
            self._digests.update(chunk)
            yield chunk
        if self._digests.size < self._size:
            raise SourceChanged(f"{shown(self._key)} has {self._digests.size} bytes instead of {self._size}")

    def hashes(self) -> Mapping[str, str]:
        """Of all bytes, once they went through. Raises StoreMismatch if they are not what was expected."""
        found = self._digests.found()
        for algorithm, wanted in self._how.expected.items():
            if found[algorithm] != wanted.lower():
                raise StoreMismatch(
                    f"{shown(self._key)}: {algorithm} of what was read is {found[algorithm]}, expected was "
                    f"{wanted}: nothing was written"
                )
        return found
