"""Google Drive as a place for objects (docs/google-drive.md). Nothing of Google's is imported before it is needed."""

from cryptfs.store.drive.access import DriveAccess

__all__ = ["DriveAccess"]
