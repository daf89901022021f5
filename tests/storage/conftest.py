"""Object stores for the tests of the storage library."""

from tests.object_stores import place, s3, s3_server, store_that_says

__all__ = ["place", "s3", "s3_server", "store_that_says"]
