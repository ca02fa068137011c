"""The HTTP interface of a node: one file per noun."""

from isthmus.service.api.app import make_app

__all__ = ["make_app"]
