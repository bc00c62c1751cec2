"""What a recorder keeps out of a record: names of samples, and their images.

Both can be set for a whole process by the environment, so that every adapter and entry point obeys
and the salt stands in no code, parameter or log.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actiontrack import settings
from actiontrack.record.digest import hash_ids, salt_check
from actiontrack.record.samples import Samples
from actiontrack.recorder.arrays import canonical_ids

__all__ = ["IMAGES_VARIABLE", "SALT_VARIABLE", "Privacy"]

logger = logging.getLogger("actiontrack")

#: Environment variable of the salt of hashed ids.
SALT_VARIABLE = settings.ID_SALT.name
#: Environment variable that keeps images out of records.
IMAGES_VARIABLE = settings.IMAGES.name


@dataclass
class Privacy:
    """What is kept out of one record.

    Attributes:
        salt: of the hashes that stand for ids, or None to record ids as they are.
        images: whether thumbnails, pictures and the place of the images may be recorded.
    """

    salt: str | None = field(default=None, repr=False)
    images: bool = True
    _hashes: dict[Any, str] = field(default_factory=dict, repr=False)
    _said_so: bool = False

    @classmethod
    def of(cls, id_salt: str | None, images: bool | None) -> "Privacy":  # noqa: FBT001
        """From a recorder's arguments, or from the environment where they are None.

        Raises:
            ParameterError: if the salt is too short, or ACTIONTRACK_IMAGES neither "never" nor
                "allowed".
        """
        salt = id_salt if id_salt is not None else settings.ID_SALT.value()
        if salt is not None:
            salt_check(salt)
        if images is None:
            images = settings.IMAGES.value() == "allowed"
        return cls(salt, images)

    @property
    def entry(self) -> Mapping[str, Any] | None:
        """What the manifest says of it; None where nothing is kept out."""
        entry: dict[str, Any] = {}
        if self.salt is not None:
            entry |= {"ids": "hmac-sha256", "salt_check": salt_check(self.salt)}
        if not self.images:
            entry |= {"images": "never"}
        return entry or None

    @property
    def hides_places(self) -> bool:
        """Whether paths of images and the folder that they are in stay out of the record."""
        return self.salt is not None or not self.images

    def ids(self, ids: Any) -> Any:
        """Ids as they are recorded: as they are, or the hash of each."""
        if self.salt is None:
            return ids
        plain = canonical_ids(ids).tolist()
        new = [name for name in dict.fromkeys(plain) if name not in self._hashes]
        self._hashes |= zip(new, hash_ids(new, self.salt), strict=True)
        return [self._hashes[name] for name in plain]

    def samples(self, samples: Samples) -> Samples:
        """Samples whose ids are hashed already, without what else would name them."""
        if not self.hides_places:
            return samples
        digests = samples.input_digests
        if digests is not None and self.salt is not None:
            digests = hash_ids(digests, self.salt)
        return Samples(**{**vars(samples), "paths": None, "input_digests": digests})

    def keeps(self, images: Sequence[Any]) -> bool:
        """Whether images may be recorded; says once that they are not."""
        if images and not self.images and not self._said_so:
            self._said_so = True
            logger.info("images are kept out of the record (%s=never).", IMAGES_VARIABLE)
        return self.images
