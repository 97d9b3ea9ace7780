"""What may have gone wrong with a session, in words that the worker and the client share."""

DIED = "died"
EXPIRED = "expired"
FAILED = "failed"
NO_KEY = "no key"
