"""One file a step; the order stands in `down_revision`."""
